package policy_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/policy/policytest"
)

// encoder is one transformer that the tests go through.
type encoder struct {
	config   policy.TransformerConfig
	sequence policy.Sequence
	actions  [2]int // by policy.Direction
}

func encoders() map[string]encoder {
	all := map[string]encoder{}
	sequence := policy.Sequence{Positions: 5, Vocabulary: 3, Conditions: 2}
	for _, activation := range []string{"relu", "leaky_relu", "tanh", "gelu"} {
		for _, uniform := range []bool{false, true} {
			all[fmt.Sprintf("%s, uniform P_B %v", activation, uniform)] = encoder{policy.TransformerConfig{
				Layers: 2, Heads: 2, Width: 12, Activation: activation, UniformBackward: uniform}, sequence, [2]int{5, 4}}
		}
	}
	all["one layer"] = encoder{policy.TransformerConfig{Layers: 1, Heads: 3, Width: 9, Feedforward: 5, Activation: "tanh"}, sequence, [2]int{5, 4}}
	all["three layers, one head"] = encoder{policy.TransformerConfig{Layers: 3, Heads: 1, Width: 8, Activation: "gelu"}, sequence, [2]int{17, 33}}
	all["without conditions"] = encoder{policy.TransformerConfig{Layers: 2, Heads: 4, Width: 16, Activation: "relu"},
		policy.Sequence{Positions: 9, Vocabulary: 2}, [2]int{3, 2}}
	all["flows"] = encoder{policy.TransformerConfig{Layers: 2, Heads: 2, Width: 12, Activation: "tanh", Flow: true}, sequence, [2]int{5, 4}}
	all["flows, uniform P_B, a vector of actions"] = encoder{policy.TransformerConfig{Layers: 1, Heads: 2, Width: 12, Activation: "gelu",
		UniformBackward: true, Flow: true}, sequence, [2]int{16, 4}}
	all["nothing to choose backward"] = encoder{policy.TransformerConfig{Layers: 1, Heads: 1, Width: 4, Activation: "relu"},
		policy.Sequence{Positions: 3, Vocabulary: 1}, [2]int{2, 0}}
	return all
}

func (e encoder) model(t testing.TB) *policy.Transformer {
	t.Helper()
	m, err := policy.NewTransformer(e.config, e.sequence, e.actions[0], e.actions[1])
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (e encoder) shape() policytest.Shape {
	s := e.sequence
	return policytest.Shape{Features: s.Positions*s.Vocabulary + s.Conditions, Actions: e.actions[0], BackwardActions: e.actions[1]}
}

// batch is a random one whose states are sequences: at most one token at each
// position, some conditions.
func (e encoder) batch(r *rand.Rand, states, trajectories int) *policy.Batch {
	b := policytest.RandomBatch(r, e.shape(), states, trajectories)
	s := &b.States
	s.FeatOffset, s.FeatIndex = s.FeatOffset[:1], nil
	for i := range states {
		filled := r.Float64()
		for p := range e.sequence.Positions {
			if i > 0 && r.Float64() < filled {
				s.FeatIndex = append(s.FeatIndex, int32(p*e.sequence.Vocabulary+r.IntN(e.sequence.Vocabulary)))
			}
		}
		for c := range e.sequence.Conditions {
			if r.IntN(2) == 0 {
				s.FeatIndex = append(s.FeatIndex, int32(e.sequence.Positions*e.sequence.Vocabulary+c))
			}
		}
		s.FeatOffset = append(s.FeatOffset, int32(len(s.FeatIndex)))
	}
	return b
}

// TestTransformerContract also has states with several tokens at a position, as
// the suite's random features have: each is a token.
func TestTransformerContract(t *testing.T) {
	for name, e := range encoders() {
		t.Run(name, func(t *testing.T) { policytest.Run(t, e.model(t), e.shape()) })
	}
}

func TestTransformerLayout(t *testing.T) {
	e := encoder{policy.TransformerConfig{Layers: 1, Heads: 2, Width: 4, Feedforward: 6, Activation: "relu"},
		policy.Sequence{Positions: 5, Vocabulary: 3, Conditions: 2}, [2]int{3, 2}}
	want := []string{
		"embedding.token [3 4] forward", "embedding.position [5 4] forward", "embedding.condition [2 4] forward", "embedding.readout [1 4] forward",
		"layer.0.attention.in.weight [4 12] forward", "layer.0.attention.in.bias [12] forward",
		"layer.0.attention.out.weight [4 4] forward", "layer.0.attention.out.bias [4] forward",
		"layer.0.feedforward.up.weight [4 6] forward", "layer.0.feedforward.up.bias [6] forward",
		"layer.0.feedforward.down.weight [6 4] forward", "layer.0.feedforward.down.bias [4] forward",
		"forward.weight [3 4] forward", "forward.bias [3] forward", "backward.weight [2 4] backward", "backward.bias [2] backward",
	}
	check := func(l policy.Layout, want []string) {
		t.Helper()
		var got []string
		for _, p := range l {
			got = append(got, fmt.Sprint(p.Name, " ", p.Shape, " ", p.Group))
		}
		if !slices.Equal(got, want) {
			t.Errorf("layout %q, want %q", got, want)
		}
	}
	check(e.model(t).Layout(), want)
	e.config.Flow = true
	check(e.model(t).Layout(), append(want[:len(want):len(want)], "flow.weight [1 4] flow", "flow.bias [1] flow"))
	e.config.Flow = false
	e.config.UniformBackward, e.sequence.Conditions, e.config.Feedforward = true, 0, 0
	want = slices.Delete(want, 2, 3)[:13]
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], "6", "16")
	}
	check(e.model(t).Layout(), want)
}

// TestAFlowHeadOfATransformerChangesNothingElse, whatever the P_B.
func TestAFlowHeadOfATransformerChangesNothingElse(t *testing.T) {
	for _, name := range []string{"flows", "flows, uniform P_B, a vector of actions"} {
		e := encoders()[name]
		with := e.model(t)
		e.config.Flow = false
		policytest.FlowsChangeNothingElse(t, with, e.model(t), e.batch(rand.New(rand.NewPCG(8, 9)), 30, 20))
	}
}

func TestTransformerInit(t *testing.T) {
	e := encoder{policy.TransformerConfig{Layers: 3, Heads: 2, Width: 48, Activation: "relu"},
		policy.Sequence{Positions: 40, Vocabulary: 60}, [2]int{40, 30}}
	m := e.model(t)
	params := make([]float32, m.Layout().Size())
	m.Init(params, 9)
	residual := 1.0 / 6 // variance over 2·layers
	for _, p := range m.Layout() {
		want := 1.0 / 48 / 3
		switch {
		case strings.HasPrefix(p.Name, "embedding"):
			want = 1
		case strings.Contains(p.Name, "attention.out"):
			want *= residual
		case strings.Contains(p.Name, "down"):
			want *= residual / 4
		}
		if p.Len() < 1000 {
			continue
		}
		squares := 0.0
		for _, x := range params[p.Offset : p.Offset+p.Len()] {
			squares += float64(x) * float64(x)
		}
		if variance := squares / float64(p.Len()); math.Abs(variance/want-1) > 0.1 {
			t.Errorf("%s has variance %v, want %v", p.Name, variance, want)
		}
	}
	// A uniform P_B takes nothing away from what the others are drawn from.
	e.config.UniformBackward = true
	u := e.model(t)
	less := make([]float32, u.Layout().Size())
	u.Init(less, 9)
	policytest.WantNear(t, "without a P_B head", u.Layout(), less, params, 0)
}

func TestTransformerFaultsNameTheField(t *testing.T) {
	good := policy.TransformerConfig{Layers: 2, Heads: 2, Width: 8, Activation: "relu"}
	s := policy.Sequence{Positions: 3, Vocabulary: 2}
	for field, spoil := range map[string]func(c *policy.TransformerConfig){
		"activation":  func(c *policy.TransformerConfig) { c.Activation = "swish" },
		"layers":      func(c *policy.TransformerConfig) { c.Layers = 0 },
		"width":       func(c *policy.TransformerConfig) { c.Width = 1<<16 + 2 },
		"heads":       func(c *policy.TransformerConfig) { c.Heads = 3 },
		"feedforward": func(c *policy.TransformerConfig) { c.Feedforward = -1 },
	} {
		c := good
		spoil(&c)
		_, err := policy.NewTransformer(c, s, 2, 2)
		var fe *fielderr.Error
		if !errors.As(err, &fe) || fe.Path != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, s := range []policy.Sequence{{}, {Positions: 3}, {Vocabulary: 3}, {Positions: 1, Vocabulary: 1, Conditions: -1}} {
		if _, err := policy.NewTransformer(good, s, 2, 2); !errors.Is(err, policy.ErrShape) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestTransformerSizeIsCappedToTheParameter, and before anything is allocated.
func TestTransformerSizeIsCappedToTheParameter(t *testing.T) {
	build := func(c policy.TransformerConfig, vocabulary int) error {
		c.Activation = "relu"
		_, err := policy.NewTransformer(c, policy.Sequence{Positions: 1, Vocabulary: vocabulary}, 1, 0)
		return err
	}
	// Of width 1: 6 + 2 + 2 + 2 in the layer, 2 in the head, 2 for position and readout.
	small := policy.TransformerConfig{Layers: 1, Heads: 1, Width: 1, Feedforward: 1}
	if err := build(small, policy.MaxParams-16); err != nil {
		t.Error(err)
	}
	var fe *fielderr.Error
	if err := build(small, policy.MaxParams-15); !errors.As(err, &fe) || fe.Path != "width" || !strings.Contains(fe.Want, "67108865 parameters") {
		t.Errorf("one parameter too many: %v", err)
	}
	wide := policy.TransformerConfig{Layers: 64, Heads: 1, Width: 1 << 16}
	if err := build(wide, 3); !errors.As(err, &fe) {
		t.Errorf("a network that nothing holds: %v", err)
	}
}

func TestTransformerRefusesMalformedStates(t *testing.T) {
	e := encoders()["one layer"]
	m := e.model(t)
	params := make([]float32, m.Layout().Size())
	for name, spoil := range map[string]func(b *policy.Batch){
		"feature too large":  func(b *policy.Batch) { b.States.FeatIndex[0] = 17 },
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
		b := e.batch(rand.New(rand.NewPCG(1, 2)), 5, 4)
		spoil(b)
		if err := m.NewTape().Score(params, b, &policy.Scores{}); !errors.Is(err, policy.ErrShape) {
			t.Errorf("%s: %v, want %v", name, err, policy.ErrShape)
		}
	}
}

// run scores a batch and differentiates it.
func run(t failer, m policy.Model, params []float32, b *policy.Batch, w *policy.Weights) (policy.Scores, []float32) {
	tape, scores, grad := m.NewTape(), policy.Scores{}, make([]float32, len(params))
	if err := tape.Score(params, b, &scores); err != nil {
		t.Fatal(err)
	}
	if err := tape.Backprop(w, grad); err != nil {
		t.Fatal(err)
	}
	return scores, grad
}

type failer interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// TestUnusedPositionsChangeNothing: a model with one position more, which no state
// uses, gives the same bits.
func TestUnusedPositionsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEncoder(t)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		small, err := policy.NewTransformer(e.config, e.sequence, e.actions[0], e.actions[1])
		if err != nil {
			t.Fatal(err)
		}
		b := e.batch(r, 12, 6)
		w := policytest.RandomWeights(r, b)
		params := make([]float32, small.Layout().Size())
		small.Init(params, 3)
		scores, grad := run(t, small, params, b, w)

		e.sequence.Positions++
		large, err := policy.NewTransformer(e.config, e.sequence, e.actions[0], e.actions[1])
		if err != nil {
			t.Fatal(err)
		}
		wide := make([]float32, large.Layout().Size())
		large.Init(wide, 4) // the new position's embedding is anything
		each := func(f func(small, large policy.Param)) {
			for _, p := range small.Layout() {
				q, _ := large.Layout().Find(p.Name)
				f(p, q)
			}
		}
		each(func(p, q policy.Param) { copy(wide[q.Offset:], params[p.Offset:p.Offset+p.Len()]) })
		for i, f := range b.States.FeatIndex { // conditions come later by a vocabulary
			if int(f) >= (e.sequence.Positions-1)*e.sequence.Vocabulary {
				b.States.FeatIndex[i] += int32(e.sequence.Vocabulary)
			}
		}
		more, wideGrad := run(t, large, wide, b, w)
		if !slices.Equal(more.LogPF, scores.LogPF) || !slices.Equal(more.LogPB, scores.LogPB) {
			t.Fatal("another position changes the scores")
		}
		each(func(p, q policy.Param) {
			if !slices.Equal(wideGrad[q.Offset:q.Offset+p.Len()], grad[p.Offset:p.Offset+p.Len()]) {
				t.Fatalf("another position changes the gradient of %s", p.Name)
			}
		})
	})
}

// drawEncoder draws a small architecture.
func drawEncoder(t *rapid.T) encoder {
	heads := rapid.IntRange(1, 4).Draw(t, "heads")
	return encoder{
		policy.TransformerConfig{
			Layers: rapid.IntRange(1, 3).Draw(t, "layers"), Heads: heads, Width: heads * rapid.IntRange(1, 6).Draw(t, "head width"),
			Feedforward: rapid.IntRange(0, 40).Draw(t, "feedforward"), Activation: rapid.SampledFrom([]string{"relu", "gelu", "tanh"}).Draw(t, "activation"),
			UniformBackward: rapid.Bool().Draw(t, "uniform"), Flow: rapid.Bool().Draw(t, "flow"),
		},
		policy.Sequence{Positions: rapid.IntRange(1, 20).Draw(t, "positions"), Vocabulary: rapid.IntRange(1, 6).Draw(t, "vocabulary"),
			Conditions: rapid.IntRange(0, 3).Draw(t, "conditions")},
		[2]int{rapid.IntRange(1, 40).Draw(t, "actions"), rapid.IntRange(0, 20).Draw(t, "backward actions")},
	}
}

// TestEqualStatesHaveEqualBits: what a state's scores are depends neither on the
// states beside it nor on its place among them.
func TestEqualStatesHaveEqualBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEncoder(t)
		m, err := policy.NewTransformer(e.config, e.sequence, e.actions[0], e.actions[1])
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		params := make([]float32, m.Layout().Size())
		m.Init(params, 3)
		const n = 30
		b := e.batch(r, n, 1)
		out := make([]float32, n*e.actions[0])
		if err := m.NewTape().LogProbs(params, &b.States, policy.Forward, out); err != nil {
			t.Fatal(err)
		}
		order := r.Perm(n)
		var mixed policy.States
		mixed.Reset()
		for _, i := range order[:n/2] {
			s := &b.States
			mixed.FeatIndex = append(mixed.FeatIndex, s.FeatIndex[s.FeatOffset[i]:s.FeatOffset[i+1]]...)
			mixed.FeatOffset = append(mixed.FeatOffset, int32(len(mixed.FeatIndex)))
			mixed.ForwardMask = append(mixed.ForwardMask, s.ForwardMask[i*e.actions[0]:(i+1)*e.actions[0]]...)
			mixed.BackwardMask = append(mixed.BackwardMask, s.BackwardMask[i*e.actions[1]:(i+1)*e.actions[1]]...)
			mixed.N++
		}
		again := make([]float32, mixed.N*e.actions[0])
		if err := m.NewTape().LogProbs(params, &mixed, policy.Forward, again); err != nil {
			t.Fatal(err)
		}
		for k, i := range order[:n/2] {
			if !slices.Equal(again[k*e.actions[0]:(k+1)*e.actions[0]], out[i*e.actions[0]:(i+1)*e.actions[0]]) {
				t.Fatalf("state %d has other bits elsewhere", i)
			}
		}
	})
}
