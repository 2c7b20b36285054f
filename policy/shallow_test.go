package policy_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/policy/policytest"
)

func open(t *testing.T, name string, params map[string]any) envs.Enumerable {
	t.Helper()
	env, err := registry.New(name, params)
	if err != nil {
		t.Fatal(err)
	}
	e, err := envs.Enumerate(env)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func kind(t *testing.T, kind, backward string, env envs.Spec, options ...policy.Option) policy.Model {
	t.Helper()
	m, err := policy.FromSpec(job.Policy{Kind: kind, Backward: backward}, env, options...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTabularContract(t *testing.T) {
	shape := policytest.Shape{Features: 9, Actions: 4, BackwardActions: 3}
	spec := envs.Spec{Name: "test", Features: shape.Features, Actions: shape.Actions, BackwardActions: shape.BackwardActions, MaxActive: 9}
	for _, backward := range []string{"joint", "uniform"} {
		plain := kind(t, "tabular", backward, spec)
		t.Run(backward, func(t *testing.T) { policytest.Run(t, plain, shape) })
		flows := kind(t, "tabular", backward, spec, policy.WithFlow)
		t.Run(backward+", flows", func(t *testing.T) {
			policytest.Run(t, flows, shape)
			policytest.FlowsChangeNothingElse(t, flows, plain, policytest.RandomBatch(rand.New(rand.NewPCG(8, 9)), shape, 30, 20))
		})
	}
}

// TestTabularFlows are the numbers of the table, by state, and their gradient is the weights.
func TestTabularFlows(t *testing.T) {
	spec := open(t, "hypergrid", map[string]any{"dim": 2, "height": 3}).Spec()
	m := kind(t, "tabular", "uniform", spec, policy.WithFlow)
	p, ok := m.Layout().Find("table.flow")
	if !ok || p.Group != policy.GroupFlow || len(p.Shape) != 1 || p.Shape[0] != 4*4 {
		t.Fatalf("the table of flows is %+v, %v", p, ok)
	}
	params, grad := make([]float32, m.Layout().Size()), make([]float32, m.Layout().Size())
	for i := range p.Len() {
		params[p.Offset+i] = float32(i)
	}
	// The cells (0, 0) and (2, 1), whose digits in base 4 are 1, 1 and 3, 2.
	b := policy.Batch{States: policy.States{N: 2, FeatOffset: []int32{0, 2, 4}, FeatIndex: []int32{0, 3, 2, 4},
		ForwardMask: make([]bool, 2*spec.Actions), BackwardMask: make([]bool, 2*spec.BackwardActions)}}
	var s policy.Scores
	tape := m.NewTape()
	if err := errors.Join(tape.Score(params, &b, &s), tape.Backprop(&policy.Weights{F: []float64{3, -2}}, grad)); err != nil {
		t.Fatal(err)
	}
	if want := []float64{1 + 4*1, 3 + 4*2}; !slices.Equal(s.LogF, want) {
		t.Errorf("log F %v, want %v", s.LogF, want)
	}
	for i, g := range grad {
		if want := map[int]float32{p.Offset + 5: 3, p.Offset + 11: -2}[i]; g != want {
			t.Errorf("gradient %v at %d, want %v", g, i, want)
		}
	}
}

func TestNormalContract(t *testing.T) {
	for _, dim := range []int{1, 2} {
		spec := open(t, "mixture", map[string]any{"dim": dim, "cells": 7}).Spec()
		policytest.Run(t, kind(t, "normal", "uniform", spec), policytest.Shape{Features: spec.Features, Actions: spec.Actions})
	}
}

// TestTabularKnowsEveryState: all states of an environment have rows of their
// own in both directions, so any policy can be written down. Changing one row
// changes the policy of one state.
func TestTabularKnowsEveryState(t *testing.T) {
	for name, params := range map[string]map[string]any{
		"hypergrid":   {"dim": 3, "height": 4},
		"mixture":     {"cells": 5},
		"categorical": nil,
	} {
		e := open(t, name, params)
		spec := e.Spec()
		m := kind(t, "tabular", "joint", spec)
		weights := make([]float32, m.Layout().Size())
		table := m.Layout()[0]
		for row := range table.Shape[0] { // the first action gets the number of its row
			weights[table.Offset+row*spec.Actions] = float32(row) / 8
		}
		var s policy.States
		s.Reset()
		from := e.NewStates(1)
		for i := range e.NumStates() {
			e.Load(from, 0, i)
			s.Append(&spec, from, 0)
		}
		out := make([]float32, len(s.ForwardMask))
		if err := m.NewTape().LogProbs(weights, &s, policy.Forward, out); err != nil {
			t.Fatal(err)
		}
		seen := map[float64]bool{}
		for i := range s.N {
			row := out[i*spec.Actions:][:spec.Actions]
			if !s.ForwardMask[i*spec.Actions] {
				continue
			}
			for a := 1; a < len(row); a++ {
				if s.ForwardMask[i*spec.Actions+a] {
					number := math.Round(float64(row[0]-row[a]) * 8)
					if seen[number] {
						t.Fatalf("%s: state %d shares row %v with another one", name, i, number)
					}
					seen[number] = true
					break
				}
			}
		}
		if len(seen) == 0 {
			t.Errorf("%s: nothing was compared", name)
		}
	}
}

func TestTabularRefusesWhatIsNoState(t *testing.T) {
	spec := envs.Spec{Name: "test", Features: 8, Actions: 2, BackwardActions: 2, MaxActive: 3, Positions: 2, Vocabulary: 3} // 2 more
	m := kind(t, "tabular", "joint", spec)
	if rows := m.Layout()[0].Shape[0]; rows != 4*4*4 {
		t.Errorf("%d rows, want (3+1)² × 2²", rows)
	}
	for _, c := range []struct {
		features []int32
		ok       bool
	}{
		{nil, true}, {[]int32{0, 3}, true}, {[]int32{2, 5, 6, 7}, true}, {[]int32{6}, true},
		{[]int32{0, 1}, false}, {[]int32{3, 0}, false}, {[]int32{8}, false}, {[]int32{-1}, false}, {[]int32{4, 4}, false},
	} {
		s := policy.States{N: 1, FeatOffset: []int32{0, int32(len(c.features))}, FeatIndex: c.features,
			ForwardMask: []bool{true, true}, BackwardMask: []bool{true, true}}
		err := m.NewTape().LogProbs(make([]float32, m.Layout().Size()), &s, policy.Forward, make([]float32, 2))
		if c.ok != (err == nil) || err != nil && !errors.Is(err, policy.ErrShape) {
			t.Errorf("features %v: %v", c.features, err)
		}
	}
}

// TestNormalIsTheGaussian compares with the density at the centres.
func TestNormalIsTheGaussian(t *testing.T) {
	spec := open(t, "mixture", map[string]any{"dim": 2, "cells": 9}).Spec()
	m := kind(t, "normal", "uniform", spec)
	params := []float32{1, -2, 0.25, -0.5} // mean, log_std
	s := policy.States{N: 1, FeatOffset: []int32{0, 0}, ForwardMask: make([]bool, spec.Actions)}
	for i := range s.ForwardMask {
		s.ForwardMask[i] = true
	}
	out := make([]float32, spec.Actions)
	if err := m.NewTape().LogProbs(params, &s, policy.Forward, out); err != nil {
		t.Fatal(err)
	}
	var density []float64
	total := 0.0
	for _, x := range spec.Points {
		a, b := (x[0]-1)/math.Exp(0.25), (x[1]+2)/math.Exp(-0.5)
		density = append(density, math.Exp(-a*a/2-b*b/2))
		total += density[len(density)-1]
	}
	for i, p := range density {
		if got := math.Exp(float64(out[i])); math.Abs(got-p/total) > 1e-6 {
			t.Errorf("cell %d has probability %v, want %v", i, got, p/total)
		}
	}
}

func TestRestrictedKindsAreRefused(t *testing.T) {
	big := open(t, "hypergrid", map[string]any{"dim": 2, "height": 8}).Spec()
	many := big
	many.Positions, many.Vocabulary, many.Features, many.MaxActive = 0, 0, 40, 12
	for _, c := range []struct {
		kind, backward, path, want string
		env                        envs.Spec
	}{
		{"normal", "uniform", "kind", "such as mixture", big},
		{"tabular", "joint", "kind", "smaller environment", many},
		{"tabular", "learned", "backward", "joint", big},
		{"tabular", "joint", "kind", "discrete", envs.Spec{Name: "plane", ActionDim: 2, Dense: 3}},
	} {
		_, err := policy.FromSpec(job.Policy{Kind: c.kind, Backward: c.backward}, c.env)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path || !strings.Contains(fault.Want, c.want) {
			t.Errorf("%s, %s: %v", c.kind, c.backward, err)
		}
	}
}
