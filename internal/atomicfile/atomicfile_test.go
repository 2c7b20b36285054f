package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	for _, content := range []string{"one", "", "three"} {
		if err := WriteBytes(path, 0o640, []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Fatalf("read %q, %v; want %q", got, err, content)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Fatalf("mode %v, %v; want 0640", info.Mode(), err)
	}
}

func TestAFailedWriteLeavesTheOldContentAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := WriteBytes(path, 0o644, []byte("old")); err != nil {
		t.Fatal(err)
	}
	fault := errors.New("fault")
	err := Write(path, 0o644, func(w io.Writer) error {
		_, _ = w.Write(make([]byte, 1<<20)) // more than the buffer: some of it reaches the file
		return fault
	})
	if !errors.Is(err, fault) {
		t.Fatalf("got %v; want the fault", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Fatalf("content is %q; want the old one", got)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Fatalf("%d files are left; want 1", len(entries))
	}
}

func TestWriteIntoNoFolder(t *testing.T) {
	err := WriteBytes(filepath.Join(t.TempDir(), "no", "a"), 0o644, nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v; want ErrNotExist", err)
	}
}
