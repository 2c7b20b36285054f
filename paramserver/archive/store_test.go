package archive

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"pgregory.net/rapid"
)

func openTestStore(t testing.TB) *Store {
	t.Helper()
	s, err := OpenFolder(filepath.Join(t.TempDir(), "archive"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStoreKeepsSegments(t *testing.T) {
	s, ctx := openTestStore(t), t.Context()
	data := []byte("some bytes that stand for a segment")
	name := promise("grid", "a", data)
	if _, err := s.Get(ctx, name); !errors.Is(err, ErrNotHeld) {
		t.Errorf("what was never put: %v", err)
	}
	for range 2 { // a repeated Put is harmless
		if err := s.Put(ctx, "grid", "a", data); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Get(ctx, name); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%q, %v", got, err)
	}
	if held, err := holds(ctx, s, "grid", "a"); !held || err != nil {
		t.Error(held, err)
	}
	if held, err := holds(ctx, s, "other", "a"); held || err != nil {
		t.Error(held, err)
	}
	list, err := s.List(ctx, "grid")
	if err != nil || len(list) != 1 || list[0].ID != "a" || list[0].Size != int64(len(data)) {
		t.Errorf("%+v, %v", list, err)
	}
	for range 2 {
		if err := s.Delete(ctx, "grid", "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(ctx, name); !errors.Is(err, ErrNotHeld) {
		t.Errorf("what was deleted: %v", err)
	}
}

// TestAFullDiskLeavesNoSegmentBehind: one that could not be written is not there,
// not even its name, and one that was there stays whole.
func TestAFullDiskLeavesNoSegmentBehind(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "driftmesh-test", dir).CombinedOutput(); err != nil {
		t.Skipf("no tmpfs of 1 MiB can be mounted here (root may): %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared=%v", shared), func(t *testing.T) {
			root := filepath.Join(dir, "archive")
			s, err := OpenFolder(root)
			if shared {
				s, err = OpenBucket(t.Context(), "file://"+dir, "cluster")
				root = filepath.Join(dir, "cluster")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := errors.Join(s.Close(), os.RemoveAll(root)); err != nil {
					t.Error(err)
				}
			}()
			ctx, whole, filler := t.Context(), bytes.Repeat([]byte("x"), 100<<10), filepath.Join(root, "filler")
			if err := s.Put(ctx, "grid", "before", whole); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filler, make([]byte, 2<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("2 MiB fit into 1: %v", err)
			}
			for _, id := range []string{"before", "late"} {
				if err := s.Put(ctx, "grid", id, whole); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("put %s on a full disk: %v", id, err)
				}
			}
			if held, err := holds(ctx, s, "grid", "late"); held || err != nil {
				t.Errorf("what was not written is held: %v, %v", held, err)
			}
			if got, err := s.Get(ctx, promise("grid", "before", whole)); err != nil || !bytes.Equal(got, whole) {
				t.Errorf("what was there before: %d bytes, %v", len(got), err)
			}
			if names, err := filepath.Glob(filepath.Join(root, "grid", "*")); err != nil || len(names) != 1 {
				t.Errorf("left behind: %q, %v", names, err)
			}
		})
	}
}

// TestStoreRefusesNames that would be files elsewhere.
func TestStoreRefusesNames(t *testing.T) {
	s, ctx := openTestStore(t), t.Context()
	for _, bad := range []string{"", ".", "..", "../x", "a/b", `a\b`, ".hidden", "-flag", strings.Repeat("x", 256), "a\x00", "ä"} {
		if err := s.Put(ctx, "grid", bad, []byte("x")); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("segment %q: %v", bad, err)
		}
		if err := s.Put(ctx, bad, "a", []byte("x")); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("job %q: %v", bad, err)
		}
	}
}

// TestStoreFindsDamage: whatever byte changed, and a file that got shorter or
// longer; what is damaged is put aside and counts as missing.
func TestStoreFindsDamage(t *testing.T) {
	s, ctx := openTestStore(t), t.Context()
	data := []byte("some bytes that stand for a segment")
	path := filepath.Join(s.root, "grid", "a.parquet")
	for name, bad := range map[string][]byte{
		"first byte": append([]byte{data[0] ^ 1}, data[1:]...), "shorter": data[:len(data)-1], "longer": append(bytes.Clone(data), 0), "empty": {},
	} {
		if err := s.Put(ctx, "grid", "a", data); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, promise("grid", "a", data)); !errors.Is(err, ErrSegment) {
			t.Errorf("%s: %v", name, err)
		}
		if held, err := holds(ctx, s, "grid", "a"); held || err != nil {
			t.Errorf("%s: still held (%v)", name, err)
		}
		if list, err := s.List(ctx, "grid"); err != nil || len(list) != 1 || !list[0].Damaged {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
	if err := s.Delete(ctx, "grid", "a"); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(ctx, "grid"); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestStoreDropsHalfWrittenFiles of a crash when it is opened again.
func TestStoreDropsHalfWrittenFiles(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "grid", "a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, "grid", "b.parquet.17f3.tmp")
	if err := errors.Join(s.Close(), os.WriteFile(half, []byte("y"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenFolder(dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.List(t.Context(), "grid")
	if _, gone := os.Stat(half); err != nil || len(list) != 1 || !errors.Is(gone, os.ErrNotExist) {
		t.Errorf("%+v, %v, %v", list, err, gone)
	}
}

// TestSharedFolder: a folder that all nodes share, clusters side by side.
func TestSharedFolder(t *testing.T) {
	root := t.TempDir()
	one, err := OpenBucket(t.Context(), "file://"+root, "cluster-1")
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	again, err := OpenBucket(t.Context(), "file://"+root, "cluster-1")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	other, err := OpenBucket(t.Context(), "file://"+root, "cluster-2")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := one.Put(t.Context(), "grid", "a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[*Store]bool{one: true, again: true, other: false} {
		if held, err := holds(t.Context(), s, "grid", "a"); held != want || err != nil || !s.Shared() {
			t.Errorf("held %v, want %v (%v)", held, want, err)
		}
	}
	for _, bad := range []string{"", "archive", "file://relative", "s3://", "ftp://host/x", ":"} {
		if err := CheckURL("--archive", bad); err == nil || !strings.Contains(err.Error(), "--archive") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := Name{
			Generation: rapid.Uint64().Draw(t, "generation"), Epoch: rapid.Uint64().Draw(t, "epoch"), Version: rapid.Uint64().Draw(t, "version"),
			Tier: rapid.IntRange(0, 9).Draw(t, "tier"), Tag: tag(fsm.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))),
		}
		if got, ok := ParseName(n.String()); !ok || got != n {
			t.Fatalf("%s is %+v, want %+v", n, got, n)
		}
		if _, err := key("grid", n.String()); err != nil {
			t.Fatal(err)
		}
	})
	for _, bad := range []string{"", "a", "g1-e1-v1-t0-aa", "g1-e1-v000000000001-t0-", "g1-e1-v000000000001-t-1-aa", "g+1-e1-v000000000001-t0-aa"} {
		if n, ok := ParseName(bad); ok {
			t.Errorf("%q is %+v", bad, n)
		}
	}
	n := Name{Generation: 1, Epoch: 5}
	for _, c := range []struct {
		generation, epoch uint64
		want              bool
	}{{1, 5, false}, {1, 4, false}, {0, 9, false}, {1, 6, true}, {2, 0, true}} {
		if n.Fenced(c.generation, c.epoch) != c.want {
			t.Errorf("fenced by %d, %d: want %v", c.generation, c.epoch, c.want)
		}
	}
}
