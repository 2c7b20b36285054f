package optim_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/paramserver/optim"
	"github.com/driftmesh/driftmesh/policy"
)

func layout() policy.Layout {
	return policy.Layout(nil).
		Append("trunk", policy.GroupForward, 3, 4).
		Append("forward", policy.GroupForward, 5).
		Append("backward", policy.GroupBackward, 4).
		Append("log_z", policy.GroupLogZ, 1)
}

// group is the learning rate of each parameter of layout.
func group(r optim.Rates, i int) float64 {
	switch {
	case i < 17:
		return r.Forward
	case i < 21:
		return r.Backward
	}
	return r.LogZ
}

var rates = optim.Rates{Forward: 1e-2, Backward: 3e-2, LogZ: 0.1}

func adam() optim.Hyper {
	return optim.Hyper{Kind: optim.Adam, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8}
}

func sgd(momentum float64) optim.Hyper {
	return optim.Hyper{Kind: optim.SGD, Momentum: momentum}
}

func build(t testing.TB, h optim.Hyper) *optim.Optimiser {
	t.Helper()
	o, err := optim.New(h, layout())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func vector(r *rand.Rand) []float32 {
	x := make([]float32, layout().Size())
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// reference takes one step in float64, as the papers write it.
type reference struct {
	h    optim.Hyper
	t    float64
	m, v []float64
}

func (o *reference) step(p []float64, grad []float32, rates optim.Rates) {
	o.t++
	if o.m == nil {
		o.m, o.v = make([]float64, len(p)), make([]float64, len(p))
	}
	length, scale := 0.0, 1.0
	for _, g := range grad {
		length += float64(g) * float64(g)
	}
	if length = math.Sqrt(length); o.h.ClipNorm > 0 && length > o.h.ClipNorm {
		scale = o.h.ClipNorm / length
	}
	for i := range p {
		g, rate := scale*float64(grad[i]), group(rates, i)
		if o.h.Kind == optim.SGD {
			o.m[i] = o.h.Momentum*o.m[i] + g
			p[i] -= rate * o.m[i]
			continue
		}
		o.m[i] = o.h.Beta1*o.m[i] + (1-o.h.Beta1)*g
		o.v[i] = o.h.Beta2*o.v[i] + (1-o.h.Beta2)*g*g
		mean, variance := o.m[i]/(1-math.Pow(o.h.Beta1, o.t)), o.v[i]/(1-math.Pow(o.h.Beta2, o.t))
		p[i] -= rate * mean / (math.Sqrt(variance) + o.h.Epsilon)
	}
}

func TestStepsAgreeWithFloat64(t *testing.T) {
	clipped := adam()
	clipped.ClipNorm = 2
	clippedSGD := sgd(0.9)
	clippedSGD.ClipNorm = 2
	for name, h := range map[string]optim.Hyper{"adam": adam(), "adam clipped": clipped,
		"sgd": sgd(0), "momentum": sgd(0.9), "momentum clipped": clippedSGD} {
		r := rand.New(rand.NewPCG(1, 2))
		o, ref := build(t, h), reference{h: h}
		params := vector(r)
		want := make([]float64, len(params))
		for i, p := range params {
			want[i] = float64(p)
		}
		for step := range 50 {
			grad := vector(r)
			before := slices.Clone(grad)
			now := rates
			now.Forward /= float64(step + 1) // rates may change at every step
			if _, err := o.Step(params, grad, now); err != nil {
				t.Fatal(err)
			}
			ref.step(want, grad, now)
			if !slices.Equal(before, grad) {
				t.Fatalf("%s: the gradient was changed", name)
			}
		}
		for i := range params {
			if d := math.Abs(float64(params[i]) - want[i]); d > 2e-5 {
				t.Errorf("%s: parameter %d is %v, want %v", name, i, params[i], want[i])
			}
		}
	}
}

func TestNormIsThatBeforeClipping(t *testing.T) {
	h := sgd(0)
	h.ClipNorm = 1
	params, grad := make([]float32, layout().Size()), make([]float32, layout().Size())
	grad[0], grad[20] = 3, 4
	norm, err := build(t, h).Step(params, grad, optim.Rates{Forward: 1, Backward: 1})
	if err != nil || norm != 5 {
		t.Errorf("norm %v, %v; want 5", norm, err)
	}
	if math.Abs(float64(params[0])+0.6) > 1e-7 || math.Abs(float64(params[20])+0.8) > 1e-7 {
		t.Errorf("moved by %v and %v, want -0.6 and -0.8", params[0], params[20])
	}
}

func TestBadGradientsChangeNothing(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, h := range []optim.Hyper{adam(), sgd(0), sgd(0.5)} {
		r := rand.New(rand.NewPCG(1, 2))
		o, params := build(t, h), vector(r)
		if _, err := o.Step(params, vector(r), rates); err != nil {
			t.Fatal(err)
		}
		was, state := slices.Clone(params), snapshot(o)
		for _, bad := range []float32{inf, -inf, inf - inf, 2e19} {
			grad := vector(r)
			grad[7] = bad
			if _, err := o.Step(params, grad, rates); !errors.Is(err, optim.ErrNonFinite) {
				t.Errorf("gradient %v: %v", bad, err)
			}
		}
		if _, err := o.Step(params[1:], vector(r), rates); !errors.Is(err, optim.ErrShape) {
			t.Errorf("short parameters: %v", err)
		}
		for _, bad := range []float64{-1, math.NaN(), math.Inf(1), 1e39} {
			wrong := rates
			wrong.LogZ = bad
			if _, err := o.Step(params, vector(r), wrong); !errors.Is(err, optim.ErrRate) {
				t.Errorf("rate %v: %v", bad, err)
			}
		}
		if !slices.Equal(was, params) || !equal(state, snapshot(o)) {
			t.Errorf("%s: a refused step left traces", h.Kind)
		}
	}
}

// snapshot copies the state, as a learner does that writes it down.
func snapshot(o *optim.Optimiser) optim.State {
	s := o.State()
	return optim.State{Step: s.Step, M: slices.Clone(s.M), V: slices.Clone(s.V)}
}

func equal(a, b optim.State) bool {
	return a.Step == b.Step && slices.Equal(a.M, b.M) && slices.Equal(a.V, b.V)
}

// TestResumeIsExact: an optimiser that was restored goes on bit for bit as the
// one that never stopped.
func TestResumeIsExact(t *testing.T) {
	for _, h := range []optim.Hyper{adam(), sgd(0), sgd(0.9)} {
		r := rand.New(rand.NewPCG(3, 2))
		o, params := build(t, h), vector(r)
		for range 5 {
			if _, err := o.Step(params, vector(r), rates); err != nil {
				t.Fatal(err)
			}
		}
		other, copied := build(t, h), slices.Clone(params)
		if err := other.Restore(snapshot(o)); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			grad := vector(r)
			for who, p := range map[*optim.Optimiser][]float32{o: params, other: copied} {
				if _, err := who.Step(p, grad, rates); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !slices.Equal(params, copied) || !equal(o.State(), other.State()) {
			t.Errorf("%s: resumed training differs", h.Kind)
		}
	}
}

func TestForeignStatesAreRefused(t *testing.T) {
	o := build(t, adam())
	before := snapshot(o)
	for name, spoil := range map[string]func(s *optim.State){
		"short":           func(s *optim.State) { s.M = s.M[1:] },
		"no V":            func(s *optim.State) { s.V = nil },
		"NaN":             func(s *optim.State) { s.M[3] = float32(math.NaN()) },
		"infinite":        func(s *optim.State) { s.V[3] = float32(math.Inf(1)) },
		"negative square": func(s *optim.State) { s.V[3] = -1 },
	} {
		s := snapshot(o)
		s.Step = 9
		spoil(&s)
		if err := o.Restore(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if !equal(before, o.State()) {
		t.Error("a refused state left traces")
	}
}

func TestFaultsNameTheField(t *testing.T) {
	nan := math.NaN()
	for field, spoil := range map[string]func(h *optim.Hyper){
		"kind":      func(h *optim.Hyper) { h.Kind = "lion" },
		"beta1":     func(h *optim.Hyper) { h.Beta1 = 1 },
		"beta2":     func(h *optim.Hyper) { h.Beta2 = -0.1 },
		"epsilon":   func(h *optim.Hyper) { h.Epsilon = 0 },
		"momentum":  func(h *optim.Hyper) { h.Kind, h.Momentum = optim.SGD, nan },
		"clip_norm": func(h *optim.Hyper) { h.ClipNorm = -1 },
	} {
		h := adam()
		spoil(&h)
		_, err := optim.New(h, layout())
		var fe *fielderr.Error
		if !errors.As(err, &fe) || fe.Path != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := optim.New(adam(), layout().Append("x", "elsewhere", 1)); err == nil {
		t.Error("a group without a learning rate was accepted")
	}
}

func TestStepAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, h := range []optim.Hyper{adam(), sgd(0.9)} {
		o, params, grad := build(t, h), vector(r), vector(r)
		if n := testing.AllocsPerRun(5, func() {
			if _, err := o.Step(params, grad, rates); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a step", h.Kind, n)
		}
	}
}

// BenchmarkAdam is a step of the default network, 76,000 parameters.
func BenchmarkAdam(b *testing.B) {
	l := policy.Layout(nil).Append("all", policy.GroupForward, 76_000)
	o, err := optim.New(adam(), l)
	if err != nil {
		b.Fatal(err)
	}
	params, grad := make([]float32, l.Size()), make([]float32, l.Size())
	for i := range grad {
		grad[i] = float32(i%17) - 8
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Step(params, grad, optim.Rates{Forward: 1e-3}); err != nil {
			b.Fatal(err)
		}
	}
}
