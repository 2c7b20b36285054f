package policytest

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/policy"
)

// RunPoints checks the contract of a model of continuous actions, made for a
// diffusion environment of that spec.
func RunPoints(t *testing.T, m policy.Model, spec envs.Spec) {
	r := rand.New(rand.NewPCG(20, 26))
	f := &pointFixture{spec: spec, fixture: fixture{m: m, params: make([]float32, m.Layout().Size()), flow: HasFlow(m)}}
	t.Run("layout", f.layout)
	m.Init(f.params, 5)
	t.Run("init", f.init)
	for i := range f.params { // a head that begins at zero hides what is below it
		f.params[i] += float32(r.NormFloat64() / 8)
	}
	f.batch = RandomPoints(r, spec, 12)
	f.weights = RandomWeights(r, f.batch)
	t.Run("score is the normal density", f.density)
	t.Run("backprop adds", f.backpropAdds)
	t.Run("backprop is linear", f.backpropLinear)
	t.Run("backprop is the slope of score", f.slope)
	t.Run("flows stand apart", f.flowsApart)
	t.Run("merged states", f.mergedPoints)
	t.Run("empty batch", f.empty)
	t.Run("faults", f.pointFaults)
	t.Run("longer vectors", f.longer)
	t.Run("same bits at any GOMAXPROCS", f.sameBits)
	t.Run("same bits however cores share", f.shared)
	t.Run("passes that grow", f.growsPoints)
	t.Run("no allocations", f.pointAllocations)
}

type pointFixture struct {
	fixture
	spec envs.Spec
}

// RandomPoints makes trajectories of a diffusion environment that share their
// states here and there.
func RandomPoints(r *rand.Rand, spec envs.Spec, trajectories int) *policy.Batch {
	b := &policy.Batch{FOffset: []int32{0}, BOffset: []int32{0}}
	d := spec.ActionDim
	add := func(step int, x []int32) int32 {
		b.States.Dense = append(b.States.Dense, float32(step))
		for _, w := range x {
			b.States.Dense = append(b.States.Dense, envs.Coordinate(w))
		}
		for _, w := range x { // the gradient of some log R
			b.States.Dense = append(b.States.Dense, 3-envs.Coordinate(w))
		}
		b.States.N++
		return int32(b.States.N - 1)
	}
	origin := add(0, make([]int32, d))
	shared := origin
	for range trajectories {
		at, x := origin, make([]int32, d)
		for step := range spec.MaxSteps {
			y := make([]int32, d)
			for j := range y {
				y[j] = envs.Word(envs.Coordinate(x[j]) + float32(r.NormFloat64()*spec.Sigma/math.Sqrt(float64(spec.MaxSteps))))
			}
			b.FState, b.FAction = append(b.FState, at), append(b.FAction, y...)
			if step == 0 && shared != origin && r.IntN(2) == 0 { // as if two had gone the same way
				at = shared
				for j, v := range b.States.Dense[int(at)*spec.Dense+1:][:d] {
					y[j] = envs.Word(v)
				}
				copy(b.FAction[len(b.FAction)-d:], y)
			} else {
				at = add(step+1, y)
			}
			if step == 0 {
				shared = at
			} else {
				b.BState, b.BAction = append(b.BState, at), append(b.BAction, x...)
			}
			x = y
		}
		b.FOffset = append(b.FOffset, int32(len(b.FState)))
		b.BOffset = append(b.BOffset, int32(len(b.BState)))
	}
	return b
}

func (f *pointFixture) tape(t *testing.T) policy.Continuous {
	t.Helper()
	tape, ok := f.m.NewTape().(policy.Continuous)
	if !ok {
		t.Fatalf("%T is no policy.Continuous", f.m.NewTape())
	}
	return tape
}

// density: scores are those of the moments, and P_B is the bridge.
func (f *pointFixture) density(t *testing.T) {
	d, width := f.spec.ActionDim, 2*f.spec.ActionDim
	tape, scores := f.tape(t), policy.Scores{}
	if err := tape.Score(f.params, f.batch, &scores); err != nil {
		t.Fatal(err)
	}
	if want := f.flows(); len(scores.LogF) != want {
		t.Errorf("log F of %d states, want %d", len(scores.LogF), want)
	}
	for _, dir := range []policy.Direction{policy.Forward, policy.Backward} {
		moments := make([]float64, f.batch.States.N*width)
		if err := tape.Moments(f.params, &f.batch.States, dir, moments); err != nil {
			t.Fatal(err)
		}
		state, action, got := f.batch.FState, f.batch.FAction, scores.LogPF
		if dir == policy.Backward {
			state, action, got = f.batch.BState, f.batch.BAction, scores.LogPB
		}
		if len(got) != len(state) {
			t.Fatalf("%v: %d log-densities for %d transitions", dir, len(got), len(state))
		}
		for i, s := range state {
			want := 0.0
			for j := range d {
				mean, std := moments[int(s)*width+j], moments[int(s)*width+d+j]
				z := (float64(envs.Coordinate(action[i*d+j])) - mean) / std
				want -= z*z/2 + math.Log(std) + math.Log(2*math.Pi)/2
			}
			if !(math.Abs(got[i]-want) <= 1e-9*(1+math.Abs(want))) {
				t.Fatalf("%v transition %d: Score says %v, Moments %v", dir, i, got[i], want)
			}
		}
		for i := range f.batch.States.N {
			step := int(f.batch.States.Dense[i*f.spec.Dense])
			none := dir == policy.Forward && step == f.spec.MaxSteps || dir == policy.Backward && step < 2
			if math.IsNaN(moments[i*width]) != none {
				t.Fatalf("%v moments of state %d after %d steps: %v", dir, i, step, moments[i*width:(i+1)*width])
			}
			if none || dir == policy.Forward {
				continue
			}
			share := float64(step-1) / float64(step)
			for j := range d {
				mean, std := share*float64(f.batch.States.Dense[i*f.spec.Dense+1+j]), f.spec.Sigma*math.Sqrt(share/float64(f.spec.MaxSteps))
				if math.Abs(moments[i*width+j]-mean) > 1e-9*(1+math.Abs(mean)) || math.Abs(moments[i*width+d+j]-std) > 1e-9 {
					t.Fatalf("P_B of state %d: %v, want N(%v, %v²)", i, moments[i*width:(i+1)*width], mean, std)
				}
			}
		}
	}
}

func (f *pointFixture) mergedPoints(t *testing.T) {
	b := f.batch
	apart := &policy.Batch{FAction: b.FAction, BAction: b.BAction, FOffset: b.FOffset, BOffset: b.BOffset}
	add := func(i int32) int32 {
		apart.States.Dense = append(apart.States.Dense, b.States.Dense[int(i)*f.spec.Dense:][:f.spec.Dense]...)
		apart.States.N++
		return int32(apart.States.N - 1)
	}
	for _, i := range b.FState {
		apart.FState = append(apart.FState, add(i))
	}
	for _, i := range b.BState {
		apart.BState = append(apart.BState, add(i))
	}
	w := policy.Weights{PF: f.weights.PF, PB: f.weights.PB} // flows are of states, not of transitions
	WantNear(t, "every transition with a state of its own", f.m.Layout(), f.gradient(t, apart, &w), f.gradient(t, b, &w), 1e-4)
}

func (f *pointFixture) pointFaults(t *testing.T) {
	want := func(what string, err, target error) {
		t.Helper()
		if !errors.Is(err, target) {
			t.Errorf("%s: %v, want %v", what, err, target)
		}
	}
	grad, d := make([]float32, len(f.params)), f.spec.ActionDim
	tape := f.tape(t)
	want("Backprop first", tape.Backprop(f.weights, grad), policy.ErrNoScore)
	want("short parameters", tape.Score(f.params[1:], f.batch, &policy.Scores{}), policy.ErrShape)
	want("a list of actions", tape.LogProbs(f.params, &f.batch.States, policy.Forward, nil), policy.ErrContinuous)
	want("short moments", tape.Moments(f.params, &f.batch.States, policy.Forward, nil), policy.ErrShape)

	nan := make([]float32, len(f.params))
	for i := range nan {
		nan[i] = float32(math.NaN())
	}
	want("NaN parameters", tape.Score(nan, f.batch, &policy.Scores{}), policy.ErrNonFinite)
	want("Backprop after a failed Score", tape.Backprop(f.weights, grad), policy.ErrNoScore)

	spoil := func(change func(b *policy.Batch)) error {
		b := *f.batch
		b.FState, b.FAction, b.BState = slices.Clone(b.FState), slices.Clone(b.FAction), slices.Clone(b.BState)
		b.States.Dense = slices.Clone(b.States.Dense)
		change(&b)
		return tape.Score(f.params, &b, &policy.Scores{})
	}
	object := f.batch.BState[f.batch.BOffset[1]-1]
	want("a step from an object", spoil(func(b *policy.Batch) { b.FState[1] = object }), policy.ErrForbidden)
	want("a step back that is forced", spoil(func(b *policy.Batch) { b.BState[0] = b.FState[1] }), policy.ErrForbidden)
	want("a step back from s0", spoil(func(b *policy.Batch) { b.BState[0] = 0 }), policy.ErrForbidden)
	want("a point that is none", spoil(func(b *policy.Batch) { b.FAction[d] = envs.Only }), policy.ErrForbidden)
	want("a state that is not there", spoil(func(b *policy.Batch) { b.FState[1] = int32(b.States.N) }), policy.ErrShape)
	want("half an action", spoil(func(b *policy.Batch) { b.FAction = b.FAction[1:] }), policy.ErrShape)
	want("features of half a state", spoil(func(b *policy.Batch) { b.States.Dense = b.States.Dense[1:] }), policy.ErrShape)
	for _, step := range []float64{-1, 0.5, float64(f.spec.MaxSteps) + 1, math.NaN()} {
		want("a state after no number of steps", spoil(func(b *policy.Batch) { b.States.Dense[f.spec.Dense] = float32(step) }), policy.ErrShape)
	}

	if err := tape.Score(f.params, f.batch, &policy.Scores{}); err != nil {
		t.Fatal(err)
	}
	want("short weights", tape.Backprop(&policy.Weights{PF: f.weights.PF[1:]}, grad), policy.ErrShape)
	want("short gradient", tape.Backprop(f.weights, grad[1:]), policy.ErrShape)
	if norm(grad) != 0 {
		t.Error("a failed Backprop wrote to the gradient")
	}
	out := make([]float64, f.batch.States.N*2*d)
	if err := tape.Moments(f.params, &f.batch.States, policy.Forward, out); err != nil {
		t.Fatal(err)
	}
	want("Backprop after Moments", tape.Backprop(f.weights, grad), policy.ErrNoScore)
	if _, err := f.m.NewTape().Extend(); !errors.Is(err, policy.ErrNoPass) {
		t.Errorf("Extend without Begin: %v", err)
	}
}

// growsPoints: a pass that is begun with some states and finished with all of them
// gives the moments of Moments, and the scores and gradient of one Score.
func (f *pointFixture) growsPoints(t *testing.T) {
	s, width, dense := &f.batch.States, 2*f.spec.ActionDim, f.spec.Dense
	moments := make([]float64, s.N*width)
	if err := f.tape(t).Moments(f.params, s, policy.Forward, moments); err != nil {
		t.Fatal(err)
	}
	var want policy.Scores
	if err := f.m.NewTape().Score(f.params, f.batch, &want); err != nil {
		t.Fatal(err)
	}
	gradient := f.gradient(t, f.batch, f.weights)
	growing := *f.batch
	upTo := func(n int) { growing.States = policy.States{N: n, Dense: s.Dense[:n*dense]} }
	for _, keep := range []bool{false, true} {
		tape := f.m.NewTape()
		upTo(0)
		if err := tape.Begin(f.params, &growing.States, keep); err != nil {
			t.Fatal(err)
		}
		for from, to := 0, 0; from < s.N; from = to {
			to = min(2*from+1, s.N)
			upTo(to)
			got, err := tape.Extend()
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != (to-from)*width {
				t.Fatalf("%d moments for %d new states", len(got), to-from)
			}
			for i, v := range got {
				if w := moments[from*width+i]; !math.IsNaN(w) && v != w {
					t.Fatalf("state %d: moments %v, want %v", from+i/width, v, w)
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
		grad := make([]float32, len(f.params))
		if err := tape.Backprop(f.weights, grad); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.LogPF, want.LogPF) || !slices.Equal(got.LogPB, want.LogPB) || !slices.Equal(got.LogF, want.LogF) || !slices.Equal(grad, gradient) {
			t.Error("a pass that grew has other scores or another gradient")
		}
		if err := tape.Finish(&growing, &got); !errors.Is(err, policy.ErrNoPass) {
			t.Errorf("a second Finish: %v", err)
		}
	}
}

func (f *pointFixture) pointAllocations(t *testing.T) {
	tape, scores := f.tape(t), policy.Scores{}
	grad := make([]float32, len(f.params))
	out := make([]float64, f.batch.States.N*2*f.spec.ActionDim)
	n := testing.AllocsPerRun(5, func() {
		err := errors.Join(
			tape.Moments(f.params, &f.batch.States, policy.Forward, out),
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
