package policy_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/policy/policytest"
)

func TestFromSpec(t *testing.T) {
	env := grid(t, 2, 5).Spec()
	good := job.Policy{Kind: "mlp", Hidden: []int{8}, Activation: "relu", Backward: "joint"}
	for mode, learned := range map[string]bool{"joint": true, "frozen": true, "max_likelihood": true, "uniform": false} {
		p := good
		p.Backward = mode
		m, err := policy.FromSpec(p, env)
		if err != nil {
			t.Fatal(err)
		}
		if _, found := m.Layout().Find("backward.weight"); found != learned {
			t.Errorf("%s: a P_B head is %v", mode, found)
		}
	}
	for field, spoil := range map[string]func(p *job.Policy){
		"kind":       func(p *job.Policy) { p.Kind = "llama" },
		"backward":   func(p *job.Policy) { p.Backward = "learned" },
		"activation": func(p *job.Policy) { p.Activation = "" },
		"hidden":     func(p *job.Policy) { p.Hidden = nil },
		"std":        func(p *job.Policy) { p.Kind, p.Std = "tabular", "learned" },
		"drift":      func(p *job.Policy) { p.Kind, p.Drift = "transformer", "langevin" },
	} {
		p := good
		spoil(&p)
		m, err := policy.FromSpec(p, env)
		var fe *fielderr.Error
		if !errors.As(err, &fe) || fe.Path != field || m != nil {
			t.Errorf("%s: %v, %v", field, m, err)
		}
	}
}

func TestTransformerFromSpec(t *testing.T) {
	env := envs.Spec{Name: "letters", Actions: 4, BackwardActions: 3, Features: 14, Positions: 3, Vocabulary: 4}
	good := job.Policy{Kind: "transformer", Layers: 2, Heads: 2, Width: 8, Feedforward: 16, Activation: "gelu", Backward: "joint"}
	for mode, learned := range map[string]bool{"joint": true, "frozen": true, "max_likelihood": true, "uniform": false} {
		p := good
		p.Backward = mode
		m, err := policy.FromSpec(p, env)
		if err != nil {
			t.Fatal(err)
		}
		if _, found := m.Layout().Find("backward.weight"); found != learned {
			t.Errorf("%s: a P_B head is %v", mode, found)
		}
		if c, _ := m.Layout().Find("embedding.condition"); len(c.Shape) != 2 || c.Shape[0] != 2 {
			t.Errorf("%s: conditions %v, want 2", mode, c.Shape)
		}
	}
	for field, spoil := range map[string]func(p *job.Policy, e *envs.Spec){
		"kind":       func(_ *job.Policy, e *envs.Spec) { e.Positions, e.Vocabulary = 0, 0 },
		"backward":   func(p *job.Policy, _ *envs.Spec) { p.Backward = "learned" },
		"activation": func(p *job.Policy, _ *envs.Spec) { p.Activation = "" },
		"heads":      func(p *job.Policy, _ *envs.Spec) { p.Heads = 3 },
		"layers":     func(p *job.Policy, _ *envs.Spec) { p.Layers = 65 },
	} {
		p, e := good, env
		spoil(&p, &e)
		m, err := policy.FromSpec(p, e)
		var fe *fielderr.Error
		if !errors.As(err, &fe) || fe.Path != field || m != nil {
			t.Errorf("%s: %v, %v", field, m, err)
		}
	}
}

// TestFlowsOfEveryKind: an objective that needs log F gets it from every kind but
// normal, which is refused by the names of the fields that could be otherwise; one
// that needs none gets the model that it always had.
func TestFlowsOfEveryKind(t *testing.T) {
	points := map[string]any{"target": "gauss25", "steps": 5, "sigma": 2.5}
	for kind, c := range map[string]struct {
		env    string
		params map[string]any
		tensor string // of the flows; none: refused
	}{
		"mlp":         {"hypergrid", map[string]any{"dim": 2, "height": 4}, "flow.weight"},
		"transformer": {"hypergrid", map[string]any{"dim": 2, "height": 4}, "flow.weight"},
		"tabular":     {"hypergrid", map[string]any{"dim": 2, "height": 4}, "table.flow"},
		"gaussian":    {"diffusion", points, "flow.weight"},
		"normal":      {"mixture", map[string]any{"cells": 5}, ""},
	} {
		env, err := registry.New(c.env, c.params)
		if err != nil {
			t.Fatal(err)
		}
		spec := job.Default()
		spec.Policy = job.Policy{Kind: kind, Backward: "uniform", Activation: "relu"}
		switch kind {
		case "transformer":
			spec.Policy.Layers, spec.Policy.Heads, spec.Policy.Width, spec.Policy.Feedforward = 1, 1, 8, 8
		case "mlp", "gaussian":
			spec.Policy.Hidden = []int{8}
		}
		for _, objective := range []string{"", job.TB, job.ML, job.SubTB, job.DB, job.FLDB, job.FM} {
			spec.Loss.Objective = objective
			m, err := policy.ForJob(spec, env.Spec())
			needs := spec.Loss.NeedsFlow()
			if needs && c.tensor == "" {
				var fault *fielderr.Error
				if !errors.As(err, &fault) || fault.Path != "loss.objective" || !strings.Contains(fault.Want, "policy.kind") ||
					!strings.Contains(fault.Want, kind) || !strings.Contains(fault.Want, "tabular") {
					t.Errorf("%s with %s: %v", kind, objective, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s with %s: %v", kind, objective, err)
				continue
			}
			if _, found := m.Layout().Find(c.tensor); found != needs || policytest.HasFlow(m) != needs {
				t.Errorf("%s with %s: layout %v", kind, objective, m.Layout())
			}
		}
	}
}

// TestModelsBeginAsEver: the tensors and the first parameters of a job without flows,
// bit for bit as they have been since checkpoints of these kinds exist.
func TestModelsBeginAsEver(t *testing.T) {
	grid := map[string]any{"dim": 2, "height": 4}
	points := map[string]any{"target": "gauss25", "steps": 5, "sigma": 2.5}
	for name, c := range map[string]struct {
		p      job.Policy
		env    string
		params map[string]any
		want   uint32
	}{
		"mlp":         {job.Policy{Kind: "mlp", Hidden: []int{9, 6}, Activation: "tanh", Backward: "joint"}, "hypergrid", grid, 0x70d17d5e},
		"transformer": {job.Policy{Kind: "transformer", Layers: 2, Heads: 2, Width: 6, Feedforward: 8, Activation: "relu", Backward: "joint"}, "hypergrid", grid, 0x45806d93},
		"tabular":     {job.Policy{Kind: "tabular", Backward: "joint"}, "hypergrid", grid, 0xcf29ea87},
		"gaussian":    {job.Policy{Kind: "gaussian", Hidden: []int{9, 6}, Activation: "tanh", Backward: "uniform", Std: "learned"}, "diffusion", points, 0xdd513fe6},
		"normal":      {job.Policy{Kind: "normal", Backward: "uniform"}, "mixture", map[string]any{"cells": 5}, 0x9815eb6d},
	} {
		env, err := registry.New(c.env, c.params)
		if err != nil {
			t.Fatal(err)
		}
		m, err := policy.FromSpec(c.p, env.Spec())
		if err != nil {
			t.Fatal(err)
		}
		params := make([]float32, m.Layout().Size())
		m.Init(params, 7)
		sum := crc32.NewIEEE()
		fmt.Fprint(sum, m.Layout())
		for _, v := range params {
			fmt.Fprintf(sum, "%08x", math.Float32bits(v))
		}
		if got := sum.Sum32(); got != c.want {
			t.Errorf("%s: %#x, want %#x", name, got, c.want)
		}
	}
}
