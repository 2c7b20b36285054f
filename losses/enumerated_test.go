package losses_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/policy"
)

// enumerated is a real environment with every trajectory listed, a real
// network, and the same network written a second time in float64. Expectations
// over trajectories are sums here, so nothing but a statement itself, or the
// code that claims it, can be wrong.
type enumerated struct {
	model     policy.Model
	layout    policy.Layout
	params    []float32
	tape      policy.Tape
	batch     policy.Batch // all trajectories
	actions   int
	backward  int
	logReward []float64 // by trajectory
	logZ      float64   // exact
	logPF     []float64 // by trajectory, in float64
	logPB     []float64
}

// enumerate lists the trajectories of a two-dimensional grid and builds a tiny
// network for it. With uniform the P_B is fixed, else it has a head.
func enumerate(t *testing.T, height int, uniform bool) *enumerated {
	t.Helper()
	c := hypergrid.Default()
	c.Dim, c.Height, c.R0 = 2, height, 0.1
	env, err := hypergrid.New(c)
	if err != nil {
		t.Fatal(err)
	}
	grid, err := envs.Enumerate(env)
	if err != nil {
		t.Fatal(err)
	}
	spec := grid.Spec()
	// tanh: central differences see no kinks.
	model, err := policy.NewMLP(policy.MLPConfig{Hidden: []int{6, 5}, Activation: "tanh", UniformBackward: uniform},
		spec.Features, spec.Actions, spec.BackwardActions)
	if err != nil {
		t.Fatal(err)
	}
	e := &enumerated{model: model, layout: model.Layout(), tape: model.NewTape(), actions: spec.Actions, backward: spec.BackwardActions}
	e.params = make([]float32, e.layout.Size())
	model.Init(e.params, 7)
	for i := range e.params {
		e.params[i] *= 3 // away from the uniform policy that small weights are
	}

	rewards := make([]float64, grid.NumObjects())
	grid.LogRewards(rewards)
	var paths [][]int32
	envs.Trajectories(grid, func(p envs.Path) bool {
		paths = append(paths, append([]int32(nil), p.Actions...))
		e.logReward = append(e.logReward, rewards[p.Object])
		return true
	})
	_, e.logZ = envs.Target(grid)
	if err := policy.NewAssembler(env).Assemble(paths, &e.batch); err != nil {
		t.Fatal(err)
	}
	e.logPF, e.logPB = e.score(e.wide())
	if total := sumExp(e.logPF); math.Abs(total-1) > 1e-12 {
		t.Fatalf("the model's trajectories have mass %v", total)
	}
	if total := sumExp(e.target()); math.Abs(total-1) > 1e-12 {
		t.Fatalf("the target's trajectories have mass %v", total)
	}
	return e
}

func sumExp(logs []float64) (total float64) {
	for _, x := range logs {
		total += math.Exp(x)
	}
	return total
}

// target is log p(τ) = log R + log P_B − log Z.
func (e *enumerated) target() []float64 {
	out := make([]float64, len(e.logReward))
	for i, r := range e.logReward {
		out[i] = r + e.logPB[i] - e.logZ
	}
	return out
}

// wide is the parameter vector in float64.
func (e *enumerated) wide() []float64 {
	out := make([]float64, len(e.params))
	for i, p := range e.params {
		out[i] = float64(p)
	}
	return out
}

// score is the reference: log P_F and log P_B of every trajectory in float64,
// with dense products and no sharing between transitions.
func (e *enumerated) score(params []float64) (logPF, logPB []float64) {
	s := &e.batch.States
	forward, backward := make([][]float64, s.N), make([][]float64, s.N)
	for i := range forward {
		h := e.trunk(params, s.FeatIndex[s.FeatOffset[i]:s.FeatOffset[i+1]])
		forward[i] = e.head(params, "forward", h, s.ForwardMask[i*e.actions:(i+1)*e.actions])
		backward[i] = e.head(params, "backward", h, s.BackwardMask[i*e.backward:(i+1)*e.backward])
	}
	logPF, logPB = make([]float64, len(e.logReward)), make([]float64, len(e.logReward))
	for i := range logPF {
		for t := e.batch.FOffset[i]; t < e.batch.FOffset[i+1]; t++ {
			logPF[i] += forward[e.batch.FState[t]][e.batch.FAction[t]]
		}
		for t := e.batch.BOffset[i]; t < e.batch.BOffset[i+1]; t++ {
			logPB[i] += backward[e.batch.BState[t]][e.batch.BAction[t]]
		}
	}
	return logPF, logPB
}

func (e *enumerated) tensor(params []float64, name string) []float64 {
	p, ok := e.layout.Find(name)
	if !ok {
		return nil
	}
	return params[p.Offset : p.Offset+p.Len()]
}

func (e *enumerated) trunk(params []float64, features []int32) []float64 {
	var x []float64
	for layer := 0; ; layer++ {
		weight := e.tensor(params, fmt.Sprintf("trunk.%d.weight", layer))
		if weight == nil {
			return x
		}
		y := append([]float64(nil), e.tensor(params, fmt.Sprintf("trunk.%d.bias", layer))...)
		for k := range y {
			if layer == 0 {
				for _, f := range features {
					y[k] += weight[int(f)*len(y)+k]
				}
			}
			for l, v := range x {
				y[k] += v * weight[l*len(y)+k]
			}
			y[k] = math.Tanh(y[k])
		}
		x = y
	}
}

// head is a masked log-softmax; without weights it is uniform.
func (e *enumerated) head(params []float64, name string, h []float64, legal []bool) []float64 {
	weight, bias := e.tensor(params, name+".weight"), e.tensor(params, name+".bias")
	out, sum := make([]float64, len(legal)), 0.0
	for a, ok := range legal {
		if !ok {
			out[a] = math.Inf(-1)
			continue
		}
		if weight != nil {
			out[a] = bias[a]
			for l, v := range h {
				out[a] += v * weight[a*len(h)+l]
			}
		}
		sum += math.Exp(out[a])
	}
	for a := range out {
		out[a] -= math.Log(sum)
	}
	return out
}

// slope is the numeric gradient, by central differences in float64, of a
// function of the log-probabilities.
func (e *enumerated) slope(f func(logPF, logPB []float64) float64) []float64 {
	const h = 1e-5
	params := e.wide()
	out := make([]float64, len(params))
	for i, p := range params {
		params[i] = p + h
		up := f(e.score(params))
		params[i] = p - h
		out[i] = (up - f(e.score(params))) / (2 * h)
		params[i] = p
	}
	return out
}

// backprop is the production path: the tape's gradient of Σ w·log P_F + wb·log P_B
// with one coefficient per trajectory.
func (e *enumerated) backprop(t *testing.T, w, wb []float64) []float64 {
	t.Helper()
	var scores policy.Scores
	if err := e.tape.Score(e.params, &e.batch, &scores); err != nil {
		t.Fatal(err)
	}
	weights := policy.Weights{PF: spread(w, e.batch.FOffset), PB: spread(wb, e.batch.BOffset)}
	grad := make([]float32, len(e.params))
	if err := e.tape.Backprop(&weights, grad); err != nil {
		t.Fatal(err)
	}
	out := make([]float64, len(grad))
	for i, g := range grad {
		out[i] = float64(g)
	}
	return out
}

// spread gives every transition its trajectory's coefficient.
func spread(w []float64, offset []int32) (out []float64) {
	for i, v := range w {
		for range offset[i+1] - offset[i] {
			out = append(out, v)
		}
	}
	return out
}

// evaluate runs the objective on some of the trajectories, by index.
func (e *enumerated) evaluate(t *testing.T, tb *losses.TB, which []int, in *losses.Input, out *losses.Output) {
	t.Helper()
	in.LogPF, in.LogPB, in.LogReward, in.LogZ = in.LogPF[:0], in.LogPB[:0], in.LogReward[:0], e.logZ
	for _, i := range which {
		in.LogPF = append(in.LogPF, e.logPF[i])
		in.LogPB = append(in.LogPB, e.logPB[i])
		in.LogReward = append(in.LogReward, e.logReward[i])
	}
	if err := tb.Evaluate(0, in, out); err != nil {
		t.Fatal(err)
	}
}

// all evaluates the objective on every trajectory once and scales the
// coefficients, which divide by their number, by the probabilities in weight.
func (e *enumerated) all(t *testing.T, tb *losses.TB, weight []float64) (w, wb []float64) {
	t.Helper()
	which := make([]int, len(weight))
	for i := range which {
		which[i] = i
	}
	var in losses.Input
	var out losses.Output
	e.evaluate(t, tb, which, &in, &out)
	n := float64(len(weight))
	for i, p := range weight {
		w, wb = append(w, n*p*out.W[i]), append(wb, n*p*out.WB[i])
	}
	return w, wb
}

// model's probabilities of its trajectories.
func (e *enumerated) probabilities() []float64 {
	out := make([]float64, len(e.logPF))
	for i, lp := range e.logPF {
		out[i] = math.Exp(lp)
	}
	return out
}

// batches calls visit with every multiset of k trajectories and its probability.
func (e *enumerated) batches(k int, visit func(which []int, probability float64)) {
	which := make([]int, 0, k)
	var walk func(first int, logWeight float64)
	walk = func(first int, logWeight float64) {
		if len(which) == k {
			visit(which, math.Exp(logWeight))
			return
		}
		for i := first; i < len(e.logPF); i++ {
			// The j-th copy of i turns ordered draws into multisets: k!/Π m_i!.
			copies := 1
			for _, w := range which {
				if w == i {
					copies++
				}
			}
			which = append(which, i)
			walk(i, logWeight+e.logPF[i]+math.Log(float64(len(which)))-math.Log(float64(copies)))
			which = which[:len(which)-1]
		}
	}
	walk(0, 0)
}

// expected is the expected coefficient of log P_F of each trajectory over all
// batches of k draws from the model. prepare, when set, runs before each batch.
func (e *enumerated) expected(t *testing.T, tb *losses.TB, k int, prepare func()) []float64 {
	t.Helper()
	total := make([]float64, len(e.logPF))
	var in losses.Input
	var out losses.Output
	mass := 0.0
	e.batches(k, func(which []int, p float64) {
		if prepare != nil {
			prepare()
		}
		e.evaluate(t, tb, which, &in, &out)
		for j, i := range which {
			total[i] += p * out.W[j]
		}
		mass += p
	})
	if math.Abs(mass-1) > 1e-12 {
		t.Fatalf("batches of %d have mass %v", k, mass)
	}
	return total
}

func length(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum)
}

func cosine(a, b []float64) float64 {
	dot := 0.0
	for i := range a {
		dot += a[i] * b[i]
	}
	return dot / (length(a) * length(b))
}

// wantGradient compares with scale·want, relative to the length of it.
func wantGradient(t *testing.T, what string, got, want []float64, scale, tolerance float64) {
	t.Helper()
	size, worst := length(want)*scale, 0.0
	for i := range want {
		worst = math.Max(worst, math.Abs(got[i]-scale*want[i]))
	}
	if !(worst <= tolerance*size) {
		t.Errorf("%s: off by %.3g of a gradient of length %.3g", what, worst, size)
	}
}
