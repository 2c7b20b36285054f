package policy_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/diffusion"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/policy/policytest"
)

func diffuse(t testing.TB, target string, dim, steps int, sigma float64) envs.Env {
	t.Helper()
	env, err := diffusion.New(diffusion.Config{Target: target, Dim: dim, Steps: steps, Sigma: sigma})
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func gaussian(t testing.TB, c policy.GaussianConfig, spec envs.Spec) *policy.Gaussian {
	t.Helper()
	m, err := policy.NewGaussian(c, spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// gaussians are the models under test.
func gaussians(t *testing.T, run func(t *testing.T, c policy.GaussianConfig, spec envs.Spec)) {
	for _, c := range []policy.GaussianConfig{
		{Hidden: []int{16}, Activation: "tanh"},
		{Hidden: []int{24, 16}, Activation: "leaky_relu", LearnStd: true, Langevin: true},
		{Hidden: []int{8, 8, 8}, Activation: "tanh", LearnStd: true},
		{Hidden: []int{16}, Activation: "tanh", Flow: true},
		{Hidden: []int{24, 16}, Activation: "leaky_relu", LearnStd: true, Langevin: true, Flow: true},
	} {
		for _, env := range []envs.Env{diffuse(t, "gauss25", 2, 5, 2.5), diffuse(t, "funnel", 3, 9, 1)} {
			t.Run(fmt.Sprintf("%v %s %v %v %v %d-D", c.Hidden, c.Activation, c.LearnStd, c.Langevin, c.Flow, env.Spec().ActionDim), func(t *testing.T) { run(t, c, env.Spec()) })
		}
	}
}

func TestGaussianContract(t *testing.T) {
	gaussians(t, func(t *testing.T, c policy.GaussianConfig, spec envs.Spec) {
		policytest.RunPoints(t, gaussian(t, c, spec), spec)
	})
}

// TestAFlowHeadOfAGaussianChangesNothingElse.
func TestAFlowHeadOfAGaussianChangesNothingElse(t *testing.T) {
	gaussians(t, func(t *testing.T, c policy.GaussianConfig, spec envs.Spec) {
		if !c.Flow {
			t.Skip("no flows")
		}
		with := gaussian(t, c, spec)
		c.Flow = false
		policytest.FlowsChangeNothingElse(t, with, gaussian(t, c, spec), policytest.RandomPoints(rand.New(rand.NewPCG(8, 9)), spec, 10))
	})
}

// gaussian64 is Σ w·log-density + Σ w·log F of the model, written as plainly as it can
// be, in float64 and one transition or state after another.
func gaussian64(c policy.GaussianConfig, spec envs.Spec, layout policy.Layout, params []float64, b *policy.Batch, w *policy.Weights) float64 {
	d, delta, total := spec.ActionDim, 1/float64(spec.MaxSteps), 0.0
	layer := func(name string, x []float64) []float64 {
		weight, _ := layout.Find(name + ".weight")
		bias, _ := layout.Find(name + ".bias")
		y := make([]float64, bias.Len())
		for k := range y {
			y[k] = params[bias.Offset+k]
			for l, v := range x {
				y[k] += v * params[weight.Offset+l*len(y)+k]
			}
		}
		return y
	}
	hidden := func(f []float32) []float64 {
		var in []float64
		for _, x := range f[1 : 1+d] {
			in = append(in, float64(x)/spec.Sigma)
		}
		time := float64(f[0]) * delta
		in = append(in, 2*time-1)
		for k := 1; k <= 16; k++ {
			in = append(in, math.Sin(math.Pi*float64(k)*time), math.Cos(math.Pi*float64(k)*time))
		}
		for _, g := range f[1+d:] {
			if c.Langevin {
				in = append(in, math.Asinh(spec.Sigma*float64(g)))
			}
		}
		for l := range c.Hidden {
			in = layer(fmt.Sprintf("trunk.%d", l), in)
			for k, v := range in {
				switch {
				case c.Activation == "tanh":
					in[k] = math.Tanh(v)
				case v < 0:
					in[k] = 0.01 * v
				}
			}
		}
		return in
	}
	h := make([][]float64, b.States.N)
	for i := range h {
		h[i] = hidden(b.States.Dense[i*spec.Dense:][:spec.Dense])
	}
	for i, s := range b.FState {
		f := b.States.Dense[int(s)*spec.Dense:][:spec.Dense]
		time, out := float64(f[0])*delta, layer("forward", h[s])
		for j := range d {
			mean, std := float64(f[1+j])+spec.Sigma*delta/math.Sqrt(1-time)*out[j], spec.Sigma*math.Sqrt(delta)
			if c.LearnStd {
				std *= math.Exp(2 * math.Tanh(out[d+j]))
			}
			total += w.PF[i] * logNormal64(float64(envs.Coordinate(b.FAction[i*d+j])), mean, std)
		}
	}
	for i := range b.States.N {
		if !c.Flow {
			break
		}
		f := b.States.Dense[i*spec.Dense:][:spec.Dense]
		total += w.F[i] * layer("flow", h[i])[0]
		for j := 0; f[0] > 0 && j < d; j++ {
			total += w.F[i] * logNormal64(float64(f[1+j]), 0, spec.Sigma*math.Sqrt(float64(f[0])*delta))
		}
	}
	return total
}

func logNormal64(x, mean, std float64) float64 {
	z := (x - mean) / std
	return -z*z/2 - math.Log(std) - math.Log(2*math.Pi)/2
}

// TestGaussianGradient compares Score with the float64 objective, and Backprop with
// its central differences, parameter by parameter.
func TestGaussianGradient(t *testing.T) {
	gaussians(t, func(t *testing.T, c policy.GaussianConfig, spec envs.Spec) {
		m := gaussian(t, c, spec)
		layout, r := m.Layout(), rand.New(rand.NewPCG(3, 1))
		params := make([]float32, layout.Size())
		m.Init(params, 1)
		wide := make([]float64, len(params))
		for i := range params {
			params[i] += float32(r.NormFloat64() / 10)
			wide[i] = float64(params[i])
		}
		b := policytest.RandomPoints(r, spec, 3)
		w := policytest.RandomWeights(r, b)
		tape, scores, grad := m.NewTape(), policy.Scores{}, make([]float32, len(params))
		if err := errors.Join(tape.Score(params, b, &scores), tape.Backprop(w, grad)); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i, lp := range scores.LogPF {
			sum += w.PF[i] * lp
		}
		for i, lf := range scores.LogF {
			sum += w.F[i] * lf
		}
		if want := gaussian64(c, spec, layout, wide, b, w); math.Abs(sum-want) > 1e-4*(1+math.Abs(want)) {
			t.Errorf("objective %v, want %v", sum, want)
		}
		slope := make([]float64, len(params))
		for i := range wide {
			const h = 1e-5
			at := func(h float64) float64 {
				moved := slices.Clone(wide)
				moved[i] += h
				return gaussian64(c, spec, layout, moved, b, w)
			}
			slope[i] = (at(h) - at(-h)) / (2 * h)
		}
		policytest.WantNear(t, "gradient", layout, grad, slope, 2e-4)
	})
}

// TestUntrainedGaussianIsTheReference: P_F of an untrained model is Brownian motion,
// and P_B is it backward: what both give a whole trajectory differs by the density of
// its end, N(0, σ²).
func TestUntrainedGaussianIsTheReference(t *testing.T) {
	env := diffuse(t, "funnel", 3, 11, 1.7)
	spec := env.Spec()
	m := gaussian(t, policy.GaussianConfig{Hidden: []int{8}, Activation: "tanh"}, spec)
	params := make([]float32, m.Layout().Size())
	m.Init(params, 1)
	b := policytest.RandomPoints(rand.New(rand.NewPCG(1, 2)), spec, 20)
	var s policy.Scores
	if err := m.NewTape().Score(params, b, &s); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		got := 0.0
		for k := b.FOffset[i]; k < b.FOffset[i+1]; k++ {
			got += s.LogPF[k]
		}
		for k := b.BOffset[i]; k < b.BOffset[i+1]; k++ {
			got -= s.LogPB[k]
		}
		end := b.FAction[int(b.FOffset[i+1]-1)*3 : int(b.FOffset[i+1])*3]
		want := policy.LogNormal(end, []float64{0, 0, 0}, []float64{1.7, 1.7, 1.7})
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("trajectory %d: log P_F − log P_B = %v, density of its end %v", i, got, want)
		}
	}
}

// TestUntrainedGaussianIsBalanced: with the flows that it begins with, those of the
// reference process, every single transition is in detailed balance; that of s0 is 0.
func TestUntrainedGaussianIsBalanced(t *testing.T) {
	spec := diffuse(t, "funnel", 3, 11, 1.7).Spec()
	m := gaussian(t, policy.GaussianConfig{Hidden: []int{8}, Activation: "tanh", Flow: true}, spec)
	params := make([]float32, m.Layout().Size())
	m.Init(params, 1)
	b := policytest.RandomPoints(rand.New(rand.NewPCG(1, 2)), spec, 5)
	var s policy.Scores
	if err := m.NewTape().Score(params, b, &s); err != nil {
		t.Fatal(err)
	}
	if s.LogF[0] != 0 {
		t.Errorf("log F(s0) = %v", s.LogF[0])
	}
	for i := range 5 {
		for k := range spec.MaxSteps - 1 {
			step, back := int(b.FOffset[i])+k, int(b.BOffset[i])+k-1 // the first way back is forced
			logPB := 0.0
			if k > 0 {
				logPB = s.LogPB[back]
			}
			if delta := s.LogF[b.FState[step]] + s.LogPF[step] - logPB - s.LogF[b.FState[step+1]]; math.Abs(delta) > 1e-9 {
				t.Errorf("trajectory %d, step %d: residual %v", i, k, delta)
			}
		}
	}
}

func TestGaussianFaults(t *testing.T) {
	points, grid := diffuse(t, "gauss25", 0, 5, 1).Spec(), grid(t, 2, 4).Spec()
	for _, c := range []struct {
		p          job.Policy
		spec       envs.Spec
		path, want string
	}{
		{job.Policy{Kind: "gaussian", Hidden: []int{4}, Activation: "tanh", Backward: "uniform"}, grid, "kind", "mlp"},
		{job.Policy{Kind: "mlp", Hidden: []int{4}, Activation: "tanh", Backward: "uniform"}, points, "kind", "gaussian"},
		{job.Policy{Kind: "mlp", Hidden: []int{4}, Activation: "tanh", Backward: "uniform", Std: "learned"}, grid, "std", "gaussian"},
		{job.Policy{Kind: "mlp", Hidden: []int{4}, Activation: "tanh", Backward: "uniform", Drift: "plain"}, grid, "drift", "gaussian"},
		{job.Policy{Kind: "gaussian", Hidden: []int{4}, Activation: "tanh", Backward: "joint"}, points, "backward", "uniform"},
		{job.Policy{Kind: "gaussian", Hidden: []int{4}, Activation: "gelu", Backward: "uniform"}, points, "activation", "tanh"},
		{job.Policy{Kind: "gaussian", Activation: "tanh", Backward: "uniform"}, points, "hidden", "widths"},
		{job.Policy{Kind: "gaussian", Hidden: []int{0}, Activation: "tanh", Backward: "uniform"}, points, "hidden[0]", "width"},
		{job.Policy{Kind: "gaussian", Hidden: []int{1 << 16, 1 << 16}, Activation: "tanh", Backward: "uniform"}, points, "hidden", "smaller"},
	} {
		_, err := policy.FromSpec(c.p, c.spec)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path || !strings.Contains(fault.Want, c.want) {
			t.Errorf("%+v: %v", c.p, err)
		}
	}
}

// TestPointsAssemble: replayed trajectories give the batch that a rollout notes, in
// the states' own bits, and what is no trajectory is refused by name.
func TestPointsAssemble(t *testing.T) {
	env := diffuse(t, "funnel", 3, 6, 1)
	spec, r := env.Spec(), rand.New(rand.NewPCG(5, 5))
	actions := make([][]int32, 4)
	for i := range actions {
		for range spec.MaxSteps * spec.ActionDim {
			actions[i] = append(actions[i], envs.Word(float32(r.NormFloat64())))
		}
	}
	copy(actions[1][:6], actions[0][:6]) // two steps together
	var b policy.Batch
	asm := policy.NewAssembler(env)
	if err := asm.Assemble(actions, &b); err != nil {
		t.Fatal(err)
	}
	if want := 1 + 4*6 - 2; b.States.N != want || len(b.States.Dense) != want*spec.Dense {
		t.Errorf("%d states, %d features, want %d states", b.States.N, len(b.States.Dense), want)
	}
	for i, taken := range actions {
		if got := b.FAction[int(b.FOffset[i])*3 : int(b.FOffset[i+1])*3]; !slices.Equal(got, taken) {
			t.Errorf("trajectory %d has other actions", i)
		}
		for k := range 6 {
			at := b.States.Dense[int(b.FState[int(b.FOffset[i])+k])*7:][:4]
			if at[0] != float32(k) || k > 0 && envs.Word(at[2]) != taken[(k-1)*3+1] {
				t.Errorf("trajectory %d leaves %v at step %d", i, at, k)
			}
		}
		if n := b.BOffset[i+1] - b.BOffset[i]; n != 5 {
			t.Fatalf("trajectory %d has %d backward transitions, want 5: the first step is forced", i, n)
		}
		for k := range 5 {
			at, to := int(b.BOffset[i])+k, taken[k*3:(k+1)*3]
			if step := b.States.Dense[int(b.BState[at])*7]; step != float32(k+2) || !slices.Equal(b.BAction[at*3:(at+1)*3], to) {
				t.Errorf("backward transition %d of trajectory %d leaves step %v for %v", k, i, step, b.BAction[at*3:(at+1)*3])
			}
		}
	}
	for what, c := range map[string]struct {
		change func(a []int32) []int32
		step   int
		reason string
	}{
		"not a number": {func(a []int32) []int32 { a[7] = envs.Word(float32(math.NaN())); return a }, 2, "coordinate 1"},
		"infinite":     {func(a []int32) []int32 { a[17] = envs.Word(float32(math.Inf(-1))); return a }, 5, "coordinate 2"},
		"too short":    {func(a []int32) []int32 { return a[:15] }, 5, "unfinished"},
		"too long":     {func(a []int32) []int32 { return append(a, 0, 0, 0) }, 6, "at most 6"},
		"half":         {func(a []int32) []int32 { return a[:16] }, 5, "takes 3"},
	} {
		bad := append([][]int32(nil), actions...)
		bad[2] = c.change(slices.Clone(bad[2]))
		err := asm.Assemble(bad, &b)
		var fault *policy.TrajectoryError
		if !errors.As(err, &fault) || fault.Trajectory != 2 || fault.Step != c.step || !strings.Contains(fault.Reason, c.reason) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := testing.AllocsPerRun(5, func() { _ = asm.Assemble(actions, &b) }); n != 0 {
		t.Errorf("%v allocations in the steady state", n)
	}
}
