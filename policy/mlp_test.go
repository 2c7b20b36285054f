package policy_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/policy/policytest"
)

// variant is one architecture that the tests go through.
type variant struct {
	config policy.MLPConfig
	shape  policytest.Shape
}

func variants() map[string]variant {
	all := map[string]variant{}
	shape := policytest.Shape{Features: 12, Actions: 5, BackwardActions: 4}
	for _, activation := range []string{"relu", "leaky_relu", "tanh"} {
		for _, uniform := range []bool{false, true} {
			name := fmt.Sprintf("%s, uniform P_B %v", activation, uniform)
			all[name] = variant{policy.MLPConfig{Hidden: []int{24, 17}, Activation: activation, UniformBackward: uniform}, shape}
		}
	}
	for _, uniform := range []bool{false, true} {
		name := fmt.Sprintf("flows, uniform P_B %v", uniform)
		all[name] = variant{policy.MLPConfig{Hidden: []int{24, 17}, Activation: "tanh", UniformBackward: uniform, Flow: true}, shape}
	}
	all["flows, one layer"] = variant{policy.MLPConfig{Hidden: []int{9}, Activation: "leaky_relu", Flow: true}, shape}
	all["flows, a vector of actions"] = variant{policy.MLPConfig{Hidden: []int{9, 8}, Activation: "tanh", Flow: true},
		policytest.Shape{Features: 12, Actions: 12, BackwardActions: 4}} // the flow's column is the first of its vector
	all["one layer"] = variant{policy.MLPConfig{Hidden: []int{9}, Activation: "relu"}, shape}
	all["three layers"] = variant{policy.MLPConfig{Hidden: []int{9, 31, 6}, Activation: "tanh"}, shape}
	all["nothing to choose backward"] = variant{policy.MLPConfig{Hidden: []int{8}, Activation: "tanh"},
		policytest.Shape{Features: 3, Actions: 2}}
	return all
}

func (v variant) model(t testing.TB) *policy.MLP {
	t.Helper()
	m, err := policy.NewMLP(v.config, v.shape.Features, v.shape.Actions, v.shape.BackwardActions)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestContract(t *testing.T) {
	for name, v := range variants() {
		t.Run(name, func(t *testing.T) { policytest.Run(t, v.model(t), v.shape) })
	}
}

func TestLayout(t *testing.T) {
	v := variant{policy.MLPConfig{Hidden: []int{6, 5}, Activation: "relu"}, policytest.Shape{Features: 4, Actions: 3, BackwardActions: 2}}
	want := []string{
		"trunk.0.weight [4 6] forward", "trunk.0.bias [6] forward",
		"trunk.1.weight [6 5] forward", "trunk.1.bias [5] forward",
		"forward.weight [3 5] forward", "forward.bias [3] forward",
		"backward.weight [2 5] backward", "backward.bias [2] backward",
	}
	check := func(l policy.Layout, want []string) {
		t.Helper()
		var got []string
		for _, p := range l {
			got = append(got, fmt.Sprint(p.Name, " ", p.Shape, " ", p.Group))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("layout %q, want %q", got, want)
		}
	}
	check(v.model(t).Layout(), want)
	v.config.UniformBackward = true
	check(v.model(t).Layout(), want[:6])
	flows := []string{"flow.weight [1 5] flow", "flow.bias [1] flow"}
	v.config.Flow = true
	check(v.model(t).Layout(), append(want[:6:6], flows...))
	v.config.UniformBackward = false
	check(v.model(t).Layout(), append(want[:8:8], flows...))
}

// TestAFlowHeadChangesNothingElse, whatever the P_B.
func TestAFlowHeadChangesNothingElse(t *testing.T) {
	for _, name := range []string{"flows, uniform P_B false", "flows, uniform P_B true", "flows, a vector of actions"} {
		v := variants()[name]
		with := v.model(t)
		v.config.Flow = false
		policytest.FlowsChangeNothingElse(t, with, v.model(t), policytest.RandomBatch(rand.New(rand.NewPCG(8, 9)), v.shape, 30, 20))
	}
}

func TestInitIsUniformInTheFanIn(t *testing.T) {
	v := variant{policy.MLPConfig{Hidden: []int{64, 50}, Activation: "relu"}, policytest.Shape{Features: 25, Actions: 40, BackwardActions: 30}}
	m := v.model(t)
	params := make([]float32, m.Layout().Size())
	m.Init(params, 9)
	fanIn := map[string]float64{"trunk.0": 25, "trunk.1": 64, "forward": 50, "backward": 50}
	for _, p := range m.Layout() {
		for layer, n := range fanIn {
			if p.Name != layer+".weight" {
				continue
			}
			bound, squares := 1/math.Sqrt(n), 0.0
			for _, x := range params[p.Offset : p.Offset+p.Len()] {
				if math.Abs(float64(x)) > bound {
					t.Fatalf("%s holds %v, outside ±%v", p.Name, x, bound)
				}
				squares += float64(x) * float64(x)
			}
			variance, want := squares/float64(p.Len()), bound*bound/3
			if math.Abs(variance/want-1) > 0.1 {
				t.Errorf("%s has variance %v, want %v", p.Name, variance, want)
			}
		}
	}
	// A uniform P_B takes nothing away from what the others are drawn from.
	v.config.UniformBackward = true
	u := v.model(t)
	less := make([]float32, u.Layout().Size())
	u.Init(less, 9)
	policytest.WantNear(t, "without a P_B head", u.Layout(), less, params, 0)
}

func TestUniformBackwardCountsParents(t *testing.T) {
	v := variant{policy.MLPConfig{Hidden: []int{3}, Activation: "tanh", UniformBackward: true},
		policytest.Shape{Features: 2, Actions: 1, BackwardActions: 4}}
	m := v.model(t)
	params := make([]float32, m.Layout().Size())
	b := &policy.Batch{BState: []int32{0, 1}, BAction: []int32{2, 0}}
	b.States = policy.States{N: 2, FeatOffset: []int32{0, 0, 1}, FeatIndex: []int32{1}, ForwardMask: []bool{false, false},
		BackwardMask: []bool{true, true, true, false, true, false, false, false}}
	var s policy.Scores
	if err := m.NewTape().Score(params, b, &s); err != nil {
		t.Fatal(err)
	}
	if s.LogPB[0] != -math.Log(3) || s.LogPB[1] != 0 {
		t.Errorf("log P_B = %v, want -log 3 and 0", s.LogPB)
	}
}

func TestMalformedStatesAreErrors(t *testing.T) {
	v := variants()["one layer"]
	m := v.model(t)
	params := make([]float32, m.Layout().Size())
	for name, spoil := range map[string]func(b *policy.Batch){
		"feature too large":  func(b *policy.Batch) { b.States.FeatIndex[0] = 12 },
		"feature negative":   func(b *policy.Batch) { b.States.FeatIndex[0] = -1 },
		"offsets fall":       func(b *policy.Batch) { b.States.FeatOffset[2] = b.States.FeatOffset[1] - 1 },
		"offsets past end":   func(b *policy.Batch) { b.States.FeatOffset[b.States.N] = 1 << 20 },
		"offsets missing":    func(b *policy.Batch) { b.States.FeatOffset = nil },
		"mask short":         func(b *policy.Batch) { b.States.ForwardMask = b.States.ForwardMask[1:] },
		"backward mask long": func(b *policy.Batch) { b.States.BackwardMask = append(b.States.BackwardMask, true) },
		"no such state":      func(b *policy.Batch) { b.FState[0] = int32(b.States.N) },
		"negative state":     func(b *policy.Batch) { b.BState[0] = -1 },
		"actions missing":    func(b *policy.Batch) { b.BAction = b.BAction[1:] },
		"negative count":     func(b *policy.Batch) { b.States.N = -1; b.States.ForwardMask, b.States.BackwardMask = nil, nil },
	} {
		b := policytest.RandomBatch(rand.New(rand.NewPCG(1, 2)), v.shape, 5, 4)
		spoil(b)
		if err := m.NewTape().Score(params, b, &policy.Scores{}); !errors.Is(err, policy.ErrShape) {
			t.Errorf("%s: %v, want %v", name, err, policy.ErrShape)
		}
	}
}

func TestConfigFaultsNameTheField(t *testing.T) {
	for field, c := range map[string]policy.MLPConfig{
		"activation": {Hidden: []int{4}, Activation: "sigmoid"},
		"hidden":     {Activation: "relu"},
		"hidden[1]":  {Hidden: []int{4, 0}, Activation: "relu"},
	} {
		_, err := policy.NewMLP(c, 3, 2, 2)
		var fe *fielderr.Error
		if !errors.As(err, &fe) || fe.Path != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := policy.NewMLP(policy.MLPConfig{Hidden: []int{4}, Activation: "relu"}, 0, 2, 2); !errors.Is(err, policy.ErrShape) {
		t.Errorf("an environment without features: %v", err)
	}
}

// TestSizeIsCappedToTheParameter, and before anything is allocated: the widest
// of these would take the machine's memory.
func TestSizeIsCappedToTheParameter(t *testing.T) {
	build := func(features, actions, backward int, uniform bool, hidden ...int) error {
		_, err := policy.NewMLP(policy.MLPConfig{Hidden: hidden, Activation: "relu", UniformBackward: uniform}, features, actions, backward)
		return err
	}
	// One hidden unit: features + 1, and 2 for each action.
	for _, c := range []struct {
		features, actions, backward int
		uniform                     bool
	}{
		{policy.MaxParams - 1 - 2*10, 10, 0, false},
		{policy.MaxParams - 1 - 2*10, 10, 1000, true},
		{policy.MaxParams - 1 - 2*10 - 2*7, 10, 7, false},
	} {
		if err := build(c.features, c.actions, c.backward, c.uniform, 1); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		c.features++
		var fe *fielderr.Error
		if err := build(c.features, c.actions, c.backward, c.uniform, 1); !errors.As(err, &fe) || fe.Path != "hidden" ||
			!strings.Contains(fe.Want, "67108865 parameters × 4 bytes = 257 MiB; a state may have 256 MiB") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	wide := slices.Repeat([]int{1 << 16}, 16)
	for i, err := range []error{
		build(10, 5, 4, false, wide...), build(math.MaxInt, 5, 4, false, 8),
		build(10, math.MaxInt, 4, false, 8), build(10, 5, math.MaxInt, false, 8),
	} {
		if err == nil {
			t.Errorf("case %d is not refused", i)
		}
	}
}
