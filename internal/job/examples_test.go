package job_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/policy"
)

// TestExamplesAreWhole opens what the job package itself does not look into:
// the environment, the network and the loss of every example.
func TestExamplesAreWhole(t *testing.T) {
	paths, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, path := range paths {
		s, _, err := job.Load(path, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		env, err := registry.New(s.Env.Name, s.Env.Params)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if _, err := policy.ForJob(s, env.Spec()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if _, _, err := losses.FromSpec(s.Loss, s.Policy.Backward, s.Train.Batch); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestFaultsOfEnvironmentsHaveLines joins the two ends: the environment finds
// the fault, the job file knows the line.
func TestFaultsOfEnvironmentsHaveLines(t *testing.T) {
	text := "env:\n  name: hypergrid\n  params:\n    dim: 4\n    height: 1\n    hieght: 8\n"
	s, src, err := job.Parse("job.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = registry.New(s.Env.Name, s.Env.Params)
	got := src.Locate(fielderr.Prefix("env", err))
	if got == nil || !strings.HasPrefix(got.Error(), "job.yaml:6:13: env.params.hieght: ") {
		t.Errorf("got %v", got)
	}
	s.Env.Params = map[string]any{"height": 1}
	_, err = registry.New(s.Env.Name, s.Env.Params)
	got = src.Locate(fielderr.Prefix("env", err))
	if got == nil || !strings.HasPrefix(got.Error(), "job.yaml:5:13: env.params.height: got 1; want ") {
		t.Errorf("got %v", got)
	}
}
