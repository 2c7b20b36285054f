package runs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/driftmesh/driftmesh/internal/safetensors"
)

func sample(version int64) *Checkpoint {
	return &Checkpoint{
		Generation: 1, Version: version, Trajectories: uint64(16 * version),
		Spec:      json.RawMessage(`{"name":"demo"}`),
		Layout:    []Param{{"trunk/w", []int{2, 3}, "forward"}, {"log_z", []int{1}, "log_z"}},
		Params:    []float32{1, 2, 3, 4, 5, 6, float32(version)},
		Optimiser: []safetensors.Tensor{safetensors.FromBytes("private", []byte{1, 2})},
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	r := create(t)
	if _, err := LoadCheckpoint(r.Dir()); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("before the first: %v; want ErrNotExist", err)
	}
	for _, version := range []int64{5, 6} {
		must(t, r.SaveCheckpoint(sample(version)))
		for _, path := range []string{r.Dir(), filepath.Join(r.Dir(), CheckpointDir)} {
			c, err := LoadCheckpoint(path)
			must(t, err)
			want := sample(version)
			var spec bytes.Buffer
			must(t, json.Compact(&spec, c.Spec))
			if c.Version != version || c.Trajectories != want.Trajectories || c.Generation != 1 ||
				!slices.Equal(c.Params, want.Params) || spec.String() != string(want.Spec) ||
				len(c.Optimiser) != 1 || !bytes.Equal(c.Optimiser[0].Data, []byte{1, 2}) {
				t.Fatalf("got %+v; want %+v", c, want)
			}
			must(t, c.Match(want.Layout))
		}
	}
	entries, err := filepath.Glob(filepath.Join(r.Dir(), CheckpointDir+"*"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("left behind: %v, %v", entries, err)
	}
}

func TestMatchNamesTheTensor(t *testing.T) {
	base := sample(1).Layout
	for says, layout := range map[string][]Param{
		`"trunk/w" of shape [2 3]`: {{"trunk/w", []int{2, 4}, "forward"}, base[1]},
		`in group "log_z"`:         {base[0], {"log_z", []int{1}, "forward"}},
		`lacks the tensor "more"`:  {base[0], base[1], {"more", nil, "forward"}},
		`has a tensor "log_z"`:     base[:1],
	} {
		if err := sample(1).Match(layout); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v; want ErrForeign with %s", err, says)
		}
	}
}

func TestSaveRefusesParametersOffTheLayout(t *testing.T) {
	r := create(t)
	must(t, r.SaveCheckpoint(sample(1)))
	for _, n := range []int{6, 8} {
		c := sample(2)
		c.Params = make([]float32, n)
		if err := r.SaveCheckpoint(c); err == nil {
			t.Fatalf("%d parameters for 7: no error", n)
		}
	}
	if c, err := LoadCheckpoint(r.Dir()); err != nil || c.Version != 1 {
		t.Fatalf("the old checkpoint is gone: %v", err)
	}
}

// A crash can stop saveCheckpoint between any two steps. Reading and opening
// then find the old checkpoint or the new one.
func TestCrashWhileSaving(t *testing.T) {
	for name, c := range map[string]struct {
		crash func(current, next, old string) error
		want  int64
	}{
		"half of the new one written": {func(_, next, _ string) error {
			return errors.Join(os.Mkdir(next, 0o755), os.WriteFile(filepath.Join(next, ParamsFile), []byte("half"), 0o644))
		}, 1},
		"between the renames": {func(current, next, old string) error {
			return errors.Join(os.CopyFS(next, os.DirFS(current)), os.Rename(current, old))
		}, 1},
		"before the old one is removed": {func(current, _, old string) error {
			return os.CopyFS(old, os.DirFS(current))
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := create(t)
			must(t, r.SaveCheckpoint(sample(c.want)))
			must(t, r.Close())
			must(t, c.crash(checkpointPaths(r.Dir())))
			if got, err := LoadCheckpoint(r.Dir()); err != nil || got.Version != c.want {
				t.Fatalf("reading without opening: %+v, %v", got, err)
			}
			again := reopen(t, r.Dir())
			if got, err := LoadCheckpoint(r.Dir()); err != nil || got.Version != c.want {
				t.Fatalf("after opening: %+v, %v", got, err)
			}
			must(t, again.SaveCheckpoint(sample(9)))
			if got, err := LoadCheckpoint(r.Dir()); err != nil || got.Version != 9 {
				t.Fatalf("after saving: %+v, %v", got, err)
			}
		})
	}
}

func TestForeignAndCorrupt(t *testing.T) {
	edit := func(name string, change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			content, err := os.ReadFile(path)
			must(t, err)
			must(t, os.WriteFile(path, change(content), 0o644))
		}
	}
	replace := func(name, from, to string) func(*testing.T, string) {
		return edit(name, func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) })
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, name))) }
	}
	for name, c := range map[string]struct {
		harm func(*testing.T, string)
		want error
		says string
	}{
		"one bit":              {edit(ParamsFile, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), ErrCorrupt, "SHA-256"},
		"cut":                  {edit(OptimiserFile, func(b []byte) []byte { return b[:len(b)-1] }), ErrCorrupt, OptimiserFile},
		"garbage":              {edit(ParamsFile, func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, len(b)) }), ErrCorrupt, "header"},
		"a file is missing":    {remove(ParamsFile), ErrCorrupt, ParamsFile},
		"no state":             {remove(StateFile), ErrForeign, StateFile},
		"state is torn":        {edit(StateFile, func(b []byte) []byte { return b[:len(b)/2] }), ErrCorrupt, "not JSON"},
		"state of another":     {edit(StateFile, func([]byte) []byte { return []byte(`{"epoch":3}`) }), ErrForeign, "format"},
		"newer format":         {replace(StateFile, `"format_version": 1`, `"format_version": 2`), ErrForeign, "format version 2"},
		"layout and file":      {replace(StateFile, `"trunk/w"`, `"trunk/v"`), ErrCorrupt, "trunk/v"},
		"a file is not listed": {replace(StateFile, `"optimiser.safetensors"`, `"x"`), ErrCorrupt, OptimiserFile},
	} {
		t.Run(name, func(t *testing.T) {
			r := create(t)
			must(t, r.SaveCheckpoint(sample(1)))
			dir := filepath.Join(r.Dir(), CheckpointDir)
			c.harm(t, dir)
			_, err := LoadCheckpoint(dir)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("got %v; want %v, naming the folder and %q", err, c.want, c.says)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "model.pt")
	must(t, os.WriteFile(file, []byte("x"), 0o644))
	if _, err := LoadCheckpoint(file); !errors.Is(err, ErrForeign) {
		t.Fatalf("a file: %v; want ErrForeign", err)
	}
}

// A reader without the lock sees whole checkpoints whose versions never go
// back while the writer replaces them.
func TestReadWhileWriting(t *testing.T) {
	r := create(t)
	must(t, r.SaveCheckpoint(sample(0)))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		last := int64(0)
		for {
			c, err := LoadCheckpoint(r.Dir())
			if err != nil || c.Version < last || c.Params[6] != float32(c.Version) {
				t.Errorf("after version %d: %+v, %v", last, c, err)
				return
			}
			last = c.Version
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for version := range int64(40) {
		must(t, r.SaveCheckpoint(sample(version)))
	}
	close(done)
	wg.Wait()
}
