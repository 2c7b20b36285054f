package policytest

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/policy"
)

// HasFlow says whether a model gives log F of states.
func HasFlow(m policy.Model) bool {
	for _, p := range m.Layout() {
		if p.Group == policy.GroupFlow {
			return true
		}
	}
	return false
}

// FlowsChangeNothingElse checks a model with flows beside the same model without, on
// a batch that is legal for both: its other parameters come first, begin alike, and
// give the same bits of log P_F, log P_B and their gradients.
func FlowsChangeNothingElse(t *testing.T, with, without policy.Model, b *policy.Batch) {
	t.Helper()
	layout, n := without.Layout(), without.Layout().Size()
	if !HasFlow(with) || HasFlow(without) {
		t.Fatalf("flows of one: %v, of the other: %v", HasFlow(with), HasFlow(without))
	}
	if got := with.Layout()[:len(layout)]; !slices.EqualFunc(got, layout, func(a, b policy.Param) bool {
		return a.Name == b.Name && a.Group == b.Group && a.Offset == b.Offset && slices.Equal(a.Shape, b.Shape)
	}) {
		t.Errorf("the layout begins with %v, want %v", got, layout)
	}
	params, less := make([]float32, with.Layout().Size()), make([]float32, n)
	with.Init(params, 3)
	without.Init(less, 3)
	if !slices.Equal(params[:n], less) {
		t.Error("other initial parameters")
	}
	r := rand.New(rand.NewPCG(8, 9))
	for i := range params { // some begin at zero
		params[i] += float32(r.NormFloat64() / 8)
	}
	w := RandomWeights(r, b)
	gradient := func(m policy.Model, w *policy.Weights) ([]float32, policy.Scores) {
		var s policy.Scores
		tape, grad := m.NewTape(), make([]float32, len(params))
		if err := errors.Join(tape.Score(params, b, &s), tape.Backprop(w, grad)); err != nil {
			t.Fatal(err)
		}
		return grad, s
	}
	plain, scores := gradient(without, w)
	flowing, more := gradient(with, &policy.Weights{PF: w.PF, PB: w.PB})
	if !slices.Equal(plain, flowing) || !slices.Equal(scores.LogPF, more.LogPF) || !slices.Equal(scores.LogPB, more.LogPB) {
		t.Error("a model with flows has other scores or another gradient")
	}
	if len(scores.LogF) != 0 {
		t.Errorf("a model without flows gives log F of %d states", len(scores.LogF))
	}
}

// flows is how many states of the batch have log F.
func (f *fixture) flows() int {
	if f.flow {
		return f.batch.States.N
	}
	return 0
}

// flowsApart: log F has parameters of its own, which the policies do not look at, and
// which sampling does not even read; and it does not move those of P_B.
func (f *fixture) flowsApart(t *testing.T) {
	if !f.flow {
		t.Skip("no flows")
	}
	byGroup := func(w *policy.Weights) map[string]float64 {
		lengths, grad := map[string]float64{}, f.gradient(t, f.batch, w)
		for _, p := range f.m.Layout() {
			lengths[p.Group] += norm(grad[p.Offset : p.Offset+p.Len()])
		}
		return lengths
	}
	if got := byGroup(&policy.Weights{PF: f.weights.PF, PB: f.weights.PB}); got[policy.GroupFlow] != 0 {
		t.Errorf("log P_F and log P_B move the parameters of flows: %v", got)
	}
	if got := byGroup(&policy.Weights{F: f.weights.F}); got[policy.GroupFlow] == 0 || got[policy.GroupBackward] != 0 {
		t.Errorf("log F has gradients of lengths %v", got)
	}
	spoiled := slices.Clone(f.params)
	for _, p := range f.m.Layout() {
		for i := range p.Len() {
			if p.Group == policy.GroupFlow {
				spoiled[p.Offset+i] = float32(math.NaN())
			}
		}
	}
	tape := f.m.NewTape()
	if err := tape.Score(spoiled, f.batch, &policy.Scores{}); !errors.Is(err, policy.ErrNonFinite) {
		t.Errorf("NaN flows: %v, want %v", err, policy.ErrNonFinite)
	}
	if err := tape.Begin(spoiled, &f.batch.States, false); err != nil {
		t.Fatal(err)
	}
	if _, err := tape.Extend(); err != nil {
		t.Errorf("sampling reads the flows: %v", err)
	}
	if err := tape.Score(f.params, f.batch, &policy.Scores{}); err != nil {
		t.Fatal(err)
	}
	grad := make([]float32, len(f.params))
	if err := tape.Backprop(&policy.Weights{F: f.weights.F[1:]}, grad); !errors.Is(err, policy.ErrShape) || norm(grad) != 0 {
		t.Errorf("short weights of flows: %v, want %v and no gradient", err, policy.ErrShape)
	}
}
