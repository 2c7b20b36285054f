package kernels_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The assembly that is committed is what gen writes.
func TestAssemblyIsWhatTheGeneratorWrites(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the generator")
	}
	dir := t.TempDir()
	files := map[string]string{"-out": "kernels_amd64.s", "-stubs": "stubs_amd64.go", "-calls": "calls_amd64.go"}
	args := []string{"run", "-C", "gen", ".", "-pkg", "kernels"}
	for flag, name := range files {
		args = append(args, flag, filepath.Join(dir, name))
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %v: %v\n%s", args, err, out)
	}
	for _, name := range files {
		got, want := body(t, filepath.Join(dir, name)), body(t, name)
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what gen writes: go generate ./internal/kernels", name)
		}
	}
}

// body is a file without its first line, which has the names of the output files.
func body(t *testing.T, path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(data, []byte("\n"))
	return rest
}
