package policy_test

import (
	"errors"
	"testing"

	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/policy"
)

// TestOnlyGaussiansHaveDrifts: the fields of one kind of policy are refused for all others.
func TestOnlyGaussiansHaveDrifts(t *testing.T) {
	env, err := registry.New("bitseq", map[string]any{"n": 8, "k": 2, "modes": 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"mlp", job.Transformer, "tabular", "normal"} {
		for want, p := range map[string]job.Policy{"std": {Std: "learned"}, "drift": {Drift: "langevin"}} {
			p.Kind, p.Activation, p.Backward = kind, "relu", "uniform"
			if kind == job.Transformer {
				p.Layers, p.Heads, p.Width, p.Feedforward = 1, 1, 8, 8
			} else {
				p.Hidden = []int{8}
			}
			_, err := policy.FromSpec(p, env.Spec())
			var fault *fielderr.Error
			if !errors.As(err, &fault) || fault.Path != want {
				t.Errorf("%s with a %s: %v", kind, want, err)
			}
		}
	}
}
