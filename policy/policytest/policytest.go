// Package policytest is the contract of policy.Model as a test suite: every
// model and every backend passes it.
package policytest

import (
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/policy"
)

// Shape is the environment that a model under test was made for.
type Shape struct {
	Features, Actions, BackwardActions int
}

// Run checks the contract of m. Random inputs come from fixed seeds.
func Run(t *testing.T, m policy.Model, s Shape) {
	f := newFixture(m, s)
	t.Run("layout", f.layout)
	t.Run("init", f.init)
	t.Run("log-probs are distributions", f.distributions)
	t.Run("score agrees with log-probs", f.scoreAgrees)
	t.Run("backprop adds", f.backpropAdds)
	t.Run("backprop is linear", f.backpropLinear)
	t.Run("backprop is the slope of score", f.slope)
	t.Run("flows stand apart", f.flowsApart)
	t.Run("merged states", f.merged)
	t.Run("empty batch", f.empty)
	t.Run("faults", f.faults)
	t.Run("longer vectors", f.longer)
	t.Run("same bits at any GOMAXPROCS", f.sameBits)
	t.Run("same bits however cores share", f.shared)
	t.Run("passes that grow", f.grows)
	t.Run("no allocations", f.allocations)
}

// fixture is a model with parameters and one random batch.
type fixture struct {
	m       policy.Model
	s       Shape
	params  []float32
	batch   *policy.Batch
	weights *policy.Weights
	flow    bool // the model has log F of states
}

func newFixture(m policy.Model, s Shape) *fixture {
	r := rand.New(rand.NewPCG(20, 26))
	f := &fixture{m: m, s: s, params: make([]float32, m.Layout().Size())}
	m.Init(f.params, 5)
	f.batch = RandomBatch(r, s, 40, 16)
	f.weights = RandomWeights(r, f.batch)
	f.flow = HasFlow(m)
	return f
}

func (f *fixture) layout(t *testing.T) {
	seen := map[string]bool{}
	offset := 0
	for _, p := range f.m.Layout() {
		if p.Name == "" || seen[p.Name] {
			t.Errorf("name %q is empty or used twice", p.Name)
		}
		seen[p.Name] = true
		if p.Offset != offset {
			t.Errorf("%s begins at %d, want %d", p.Name, p.Offset, offset)
		}
		offset += p.Len()
		if g := p.Group; g != policy.GroupForward && g != policy.GroupBackward && g != policy.GroupFlow {
			t.Errorf("%s is in group %q", p.Name, g)
		}
	}
}

func (f *fixture) init(t *testing.T) {
	again, other := make([]float32, len(f.params)), make([]float32, len(f.params))
	f.m.Init(again, 5)
	f.m.Init(other, 6)
	if !slices.Equal(again, f.params) {
		t.Error("the same seed gives other parameters")
	}
	if slices.Equal(other, f.params) {
		t.Error("another seed gives the same parameters")
	}
	for i, v := range f.params {
		if v-v != 0 {
			t.Fatalf("parameter %d is %v", i, v)
		}
	}
}

// each calls do for both directions with the width and mask of each.
func (f *fixture) each(do func(dir policy.Direction, width int, mask []bool)) {
	do(policy.Forward, f.s.Actions, f.batch.States.ForwardMask)
	do(policy.Backward, f.s.BackwardActions, f.batch.States.BackwardMask)
}

func (f *fixture) distributions(t *testing.T) {
	tape := f.m.NewTape()
	f.each(func(dir policy.Direction, width int, mask []bool) {
		out := make([]float32, len(mask))
		if err := tape.LogProbs(f.params, &f.batch.States, dir, out); err != nil {
			t.Fatal(err)
		}
		for i := range f.batch.States.N {
			sum, legal := 0.0, 0.0
			for a := range width {
				logp := float64(out[i*width+a])
				sum += math.Exp(logp)
				switch {
				case mask[i*width+a]:
					legal = 1
				case !math.IsInf(logp, -1):
					t.Fatalf("%v, state %d: illegal action %d has log-probability %v", dir, i, a, logp)
				}
			}
			if math.Abs(sum-legal) > 1e-5 {
				t.Fatalf("%v, state %d: probabilities sum to %v, want %v", dir, i, sum, legal)
			}
		}
	})
}

func (f *fixture) scoreAgrees(t *testing.T) {
	tape, scores := f.m.NewTape(), policy.Scores{}
	before := slices.Clone(f.params)
	if err := tape.Score(f.params, f.batch, &scores); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before, f.params) {
		t.Error("Score changed the parameters")
	}
	if want := f.flows(); len(scores.LogF) != want {
		t.Errorf("log F of %d states, want %d", len(scores.LogF), want)
	}
	f.each(func(dir policy.Direction, width int, mask []bool) {
		state, action, got := f.batch.FState, f.batch.FAction, scores.LogPF
		if dir == policy.Backward {
			state, action, got = f.batch.BState, f.batch.BAction, scores.LogPB
		}
		out := make([]float32, len(mask))
		if err := tape.LogProbs(f.params, &f.batch.States, dir, out); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(state) {
			t.Fatalf("%v: %d log-probabilities for %d transitions", dir, len(got), len(state))
		}
		for i := range state {
			want := float64(out[int(state[i])*width+int(action[i])])
			if math.Abs(got[i]-want) > 1e-5*(1+math.Abs(want)) {
				t.Fatalf("%v transition %d: Score says %v, LogProbs %v", dir, i, got[i], want)
			}
		}
	})
}

// gradient is that of Σ w·log-prob at params, from zero.
func (f *fixture) gradient(t *testing.T, b *policy.Batch, w *policy.Weights) []float32 {
	t.Helper()
	tape, grad := f.m.NewTape(), make([]float32, len(f.params))
	if err := tape.Score(f.params, b, &policy.Scores{}); err != nil {
		t.Fatal(err)
	}
	if err := tape.Backprop(w, grad); err != nil {
		t.Fatal(err)
	}
	return grad
}

func (f *fixture) backpropAdds(t *testing.T) {
	want := f.gradient(t, f.batch, f.weights)
	tape := f.m.NewTape()
	if err := tape.Score(f.params, f.batch, &policy.Scores{}); err != nil {
		t.Fatal(err)
	}
	twice := make([]float32, len(want))
	for range 2 {
		if err := tape.Backprop(f.weights, twice); err != nil {
			t.Fatal(err)
		}
	}
	for i := range twice {
		twice[i] /= 2
	}
	WantNear(t, "half of two calls", f.m.Layout(), twice, want, 1e-5)
	none := make([]float32, len(want))
	if err := tape.Backprop(&policy.Weights{}, none); err != nil {
		t.Fatal(err)
	}
	if norm(none) != 0 {
		t.Error("nil weights have a gradient")
	}
}

func (f *fixture) backpropLinear(t *testing.T) {
	onlyF := f.gradient(t, f.batch, &policy.Weights{PF: f.weights.PF})
	onlyB := f.gradient(t, f.batch, &policy.Weights{PB: f.weights.PB})
	flows := f.gradient(t, f.batch, &policy.Weights{F: f.weights.F})
	if moves := norm(flows) > 0; moves != f.flow {
		t.Errorf("weights of flows have a gradient: %v, the model has flows: %v", moves, f.flow)
	}
	for i := range onlyF {
		onlyF[i] += onlyB[i] + flows[i]
	}
	WantNear(t, "P_F, P_B and F alone, added up,", f.m.Layout(), onlyF, f.gradient(t, f.batch, f.weights), 1e-5)
}

func (f *fixture) objective(t *testing.T, params []float32) float64 {
	t.Helper()
	var s policy.Scores
	if err := f.m.NewTape().Score(params, f.batch, &s); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, w := range f.weights.PF {
		sum += w * s.LogPF[i]
	}
	for i, w := range f.weights.PB {
		sum += w * s.LogPB[i]
	}
	for i, log := range s.LogF {
		sum += f.weights.F[i] * log
	}
	return sum
}

// slope compares with central differences along the gradient and along a
// direction that leans on it; float32 leaves two digits.
func (f *fixture) slope(t *testing.T) {
	grad := f.gradient(t, f.batch, f.weights)
	length := norm(grad)
	if length == 0 {
		t.Skip("no parameters to move")
	}
	r := rand.New(rand.NewPCG(3, 4))
	for try := range 3 {
		direction, projection := make([]float64, len(grad)), 0.0
		for i, g := range grad {
			direction[i] = float64(g) / length
			if try > 0 {
				direction[i] += r.NormFloat64() / math.Sqrt(float64(len(grad)))
			}
			projection += direction[i] * float64(g)
		}
		const h = 3e-3
		at := func(h float64) float64 {
			moved := slices.Clone(f.params)
			for i, d := range direction {
				moved[i] += float32(h * d)
			}
			return f.objective(t, moved)
		}
		if got := (at(h) - at(-h)) / (2 * h); math.Abs(got-projection) > 0.02*length {
			t.Errorf("direction %d: slope %v, gradient says %v", try, got, projection)
		}
	}
}

func (f *fixture) merged(t *testing.T) {
	w := policy.Weights{PF: f.weights.PF, PB: f.weights.PB} // flows are of states, not of transitions
	WantNear(t, "every transition with a state of its own", f.m.Layout(),
		f.gradient(t, apart(f.batch, f.s), &w), f.gradient(t, f.batch, &w), 1e-5)
}

// apart is b with one copy of its state for every transition.
func apart(b *policy.Batch, s Shape) *policy.Batch {
	out := &policy.Batch{FAction: b.FAction, BAction: b.BAction, FOffset: b.FOffset, BOffset: b.BOffset}
	out.States.FeatOffset = []int32{0}
	add := func(i int32) int32 {
		from, to := &b.States, &out.States
		to.FeatIndex = append(to.FeatIndex, from.FeatIndex[from.FeatOffset[i]:from.FeatOffset[i+1]]...)
		to.FeatOffset = append(to.FeatOffset, int32(len(to.FeatIndex)))
		to.ForwardMask = append(to.ForwardMask, from.ForwardMask[int(i)*s.Actions:][:s.Actions]...)
		to.BackwardMask = append(to.BackwardMask, from.BackwardMask[int(i)*s.BackwardActions:][:s.BackwardActions]...)
		to.N++
		return int32(to.N - 1)
	}
	for _, i := range b.FState {
		out.FState = append(out.FState, add(i))
	}
	for _, i := range b.BState {
		out.BState = append(out.BState, add(i))
	}
	return out
}

func (f *fixture) empty(t *testing.T) {
	b := &policy.Batch{FOffset: []int32{0}, BOffset: []int32{0}}
	b.States.FeatOffset = []int32{0}
	if n := norm(f.gradient(t, b, &policy.Weights{})); n != 0 {
		t.Errorf("a batch without transitions has a gradient of norm %v", n)
	}
}

func (f *fixture) faults(t *testing.T) {
	want := func(what string, err, target error) {
		t.Helper()
		if !errors.Is(err, target) {
			t.Errorf("%s: %v, want %v", what, err, target)
		}
	}
	grad := make([]float32, len(f.params))
	tape := f.m.NewTape()
	want("Backprop first", tape.Backprop(f.weights, grad), policy.ErrNoScore)
	want("short parameters", tape.Score(f.params[1:], f.batch, &policy.Scores{}), policy.ErrShape)

	nan := make([]float32, len(f.params))
	for i := range nan {
		nan[i] = float32(math.NaN())
	}
	want("NaN parameters", tape.Score(nan, f.batch, &policy.Scores{}), policy.ErrNonFinite)
	want("Backprop after a failed Score", tape.Backprop(f.weights, grad), policy.ErrNoScore)

	forbid := *f.batch
	forbid.States.ForwardMask = slices.Clone(forbid.States.ForwardMask)
	forbid.States.ForwardMask[int(forbid.FState[3])*f.s.Actions+int(forbid.FAction[3])] = false
	want("forbidden action", tape.Score(f.params, &forbid, &policy.Scores{}), policy.ErrForbidden)
	outside := *f.batch
	for _, a := range []int32{-1, int32(f.s.Actions)} {
		outside.FAction = slices.Clone(outside.FAction)
		outside.FAction[2] = a
		want("action outside the range", tape.Score(f.params, &outside, &policy.Scores{}), policy.ErrForbidden)
	}

	if err := tape.Score(f.params, f.batch, &policy.Scores{}); err != nil {
		t.Fatal(err)
	}
	want("short weights", tape.Backprop(&policy.Weights{PF: f.weights.PF[1:]}, grad), policy.ErrShape)
	want("short gradient", tape.Backprop(f.weights, grad[1:]), policy.ErrShape)
	if norm(grad) != 0 {
		t.Error("a failed Backprop wrote to the gradient")
	}
	out := make([]float32, len(f.batch.States.ForwardMask))
	if err := tape.LogProbs(f.params, &f.batch.States, policy.Forward, out); err != nil {
		t.Fatal(err)
	}
	want("Backprop after LogProbs", tape.Backprop(f.weights, grad), policy.ErrNoScore)
	want("short output", tape.LogProbs(f.params, &f.batch.States, policy.Forward, out[1:]), policy.ErrShape)
}

// longer: a learner's vectors go on behind the model's parameters.
func (f *fixture) longer(t *testing.T) {
	want := f.gradient(t, f.batch, f.weights)
	params := append(slices.Clone(f.params), float32(math.NaN()))
	grad := append(make([]float32, len(f.params)), 7)
	tape := f.m.NewTape()
	if err := tape.Score(params, f.batch, &policy.Scores{}); err != nil {
		t.Fatal(err)
	}
	if err := tape.Backprop(f.weights, grad); err != nil {
		t.Fatal(err)
	}
	if n := len(want); grad[n] != 7 || !slices.Equal(grad[:n], want) {
		t.Error("a longer vector gives another gradient")
	}
}

// shared: cores that take parts in any order change no bit.
func (f *fixture) shared(t *testing.T) {
	want := f.gradient(t, f.batch, f.weights)
	for _, n := range []int{1, 2, 5} {
		tape, grad := f.m.NewTape(), make([]float32, len(f.params))
		tape.Share(disorder(n))
		if err := tape.Score(f.params, f.batch, &policy.Scores{}); err != nil {
			t.Fatal(err)
		}
		if err := tape.Backprop(f.weights, grad); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(grad, want) {
			t.Errorf("%d cores give another gradient", n)
		}
	}
}

// disorder is so many cores that do the last parts first.
type disorder int

func (d disorder) Num() int { return int(d) }

func (d disorder) Do(parts int, f *func(int)) {
	for p := parts - 1; p >= 0; p-- {
		(*f)(p)
	}
}

// grows: a pass that is begun with some states and finished with all of them
// gives the probabilities of LogProbs, and the scores and gradient of one Score.
func (f *fixture) grows(t *testing.T) {
	s, width := &f.batch.States, f.s.Actions
	logp := make([]float32, len(s.ForwardMask))
	if err := f.m.NewTape().LogProbs(f.params, s, policy.Forward, logp); err != nil {
		t.Fatal(err)
	}
	var want policy.Scores
	if err := f.m.NewTape().Score(f.params, f.batch, &want); err != nil {
		t.Fatal(err)
	}
	gradient := f.gradient(t, f.batch, f.weights)

	growing := *f.batch
	upTo := func(n int) { // what a rollout has found so far
		growing.States = policy.States{
			N: n, FeatOffset: s.FeatOffset[:n+1], FeatIndex: s.FeatIndex[:s.FeatOffset[n]],
			ForwardMask: s.ForwardMask[:n*width], BackwardMask: s.BackwardMask[:n*f.s.BackwardActions],
		}
	}
	for _, keep := range []bool{false, true} {
		tape := f.m.NewTape()
		upTo(0)
		if err := tape.Begin(f.params, &growing.States, keep); err != nil {
			t.Fatal(err)
		}
		for from, to := 0, 0; from < s.N; from = to {
			to = min(2*from+1, s.N)
			upTo(to)
			prob, err := tape.Extend()
			if err != nil {
				t.Fatal(err)
			}
			if len(prob) != (to-from)*width {
				t.Fatalf("%d probabilities for %d new states", len(prob), to-from)
			}
			for i, p := range prob {
				if want := math.Exp(float64(logp[from*width+i])); math.Abs(p-want) > 1e-5*want {
					t.Fatalf("state %d, action %d: probability %v, want %v", from+i/width, i%width, p, want)
				}
			}
		}
		var got policy.Scores
		err := tape.Finish(&growing, &got)
		if !keep {
			if !errors.Is(err, policy.ErrNoPass) {
				t.Errorf("Finish of a pass that was not kept: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.LogPF, want.LogPF) || !slices.Equal(got.LogPB, want.LogPB) || !slices.Equal(got.LogF, want.LogF) {
			t.Error("a pass that grew has other scores")
		}
		grad := make([]float32, len(f.params))
		if err := tape.Backprop(f.weights, grad); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(grad, gradient) {
			t.Error("a pass that grew has another gradient")
		}
		if err := tape.Finish(&growing, &got); !errors.Is(err, policy.ErrNoPass) {
			t.Errorf("a second Finish: %v", err)
		}
	}
	if _, err := f.m.NewTape().Extend(); !errors.Is(err, policy.ErrNoPass) {
		t.Errorf("Extend without Begin: %v", err)
	}
}

func (f *fixture) sameBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var first []float32
	for _, procs := range []int{1, 2, 8} {
		runtime.GOMAXPROCS(procs)
		grad := f.gradient(t, f.batch, f.weights)
		if first == nil {
			first = grad
		}
		if !slices.Equal(first, grad) {
			t.Errorf("GOMAXPROCS %d gives another gradient than 1", procs)
		}
	}
}

func (f *fixture) allocations(t *testing.T) {
	tape, scores := f.m.NewTape(), policy.Scores{}
	grad := make([]float32, len(f.params))
	out := make([]float32, len(f.batch.States.ForwardMask))
	n := testing.AllocsPerRun(5, func() {
		err := errors.Join(
			tape.LogProbs(f.params, &f.batch.States, policy.Forward, out),
			tape.Score(f.params, f.batch, &scores),
			tape.Backprop(f.weights, grad))
		if err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a round in the steady state", n)
	}
}
