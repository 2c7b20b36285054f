package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/datafile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
)

// file writes a file and returns its path and hash.
func file(t *testing.T, name, text string) (path, sum string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, datafile.New(name, []byte(text)).SHA256
}

func TestEnvironmentsFromFiles(t *testing.T) {
	table, tableSum := file(t, "t.csv", "dna,score\nA,1\nC,2\nG,0.5\nT,0\n")
	modes, modesSum := file(t, "modes.txt", "00000000\n11110000\n")
	for _, c := range []struct {
		name   string
		params map[string]any
		cells  float64
	}{
		{"sequence", map[string]any{"table": table, "sha256": tableSum, "sequence_column": "dna", "value_column": "score"}, 4},
		{"bitseq", map[string]any{"n": 8, "k": 4, "modes_file": modes, "sha256": modesSum}, 256},
	} {
		env, err := registry.New(c.name, c.params)
		if err != nil {
			t.Fatal(err)
		}
		if f := envs.FactsOf(env); *f.Cells != c.cells {
			t.Errorf("%s: %v objects", c.name, *f.Cells)
		}
	}
	for _, c := range []struct {
		name       string
		params     map[string]any
		path, want string
	}{
		{"sequence", map[string]any{"table": table}, "params.table", `t.csv:1: sequence: no such column; there are ["dna" "score"]`},
		{"sequence", map[string]any{"table": "nowhere.csv"}, "params.table", "nowhere.csv: no such file"},
		{"sequence", map[string]any{"table": table, "sha256": modesSum}, "params.sha256", tableSum},
		{"bitseq", map[string]any{"n": 8, "k": 4, "modes_file": table}, "params.modes_file", `line 1 is "dna,score"`},
		{"bitseq", map[string]any{"n": 8, "k": 4, "modes_file": modes, "sha256": tableSum}, "params.sha256", modesSum},
		{"bitseq", map[string]any{"n": 8, "k": 4, "modes_file": t.TempDir()}, "params.modes_file", "not a regular file"},
	} {
		_, err := registry.New(c.name, c.params)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path || !strings.Contains(fault.Want, c.want) {
			t.Errorf("%s %v: %v", c.name, c.params, err)
		}
	}
}

// TestJobsKnowTheFiles: what a job takes for files are the parameters that
// environments declare as such.
func TestJobsKnowTheFiles(t *testing.T) {
	declared := map[string]job.EnvFile{}
	for _, info := range registry.List() {
		for _, p := range info.Params {
			if p.Type != "file" {
				continue
			}
			f := job.EnvFile{Param: p.Name}
			f.Builtin, _ = p.Default.(string)
			declared[info.Name] = f
		}
	}
	if !reflect.DeepEqual(declared, job.EnvFiles) {
		t.Errorf("environments declare %+v, jobs know %+v", declared, job.EnvFiles)
	}
}
