package policy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/policy/policytest"
)

// plain is the transformer in float64, written as plainly as it can be: one state
// after the other, every layer for every token, nothing shared.
type plain struct {
	e      encoder
	params []float64
	tensor map[string]policy.Param
}

func newPlain(e encoder, layout policy.Layout, params []float32) plain {
	p := plain{e, make([]float64, len(params)), map[string]policy.Param{}}
	for _, t := range layout {
		p.tensor[t.Name] = t
	}
	for i, v := range params {
		p.params[i] = float64(v)
	}
	return p
}

// row is row i of a tensor.
func (p plain) row(name string, i int) []float64 {
	t := p.tensor[name]
	n := t.Len() / t.Shape[0]
	return p.params[t.Offset+i*n : t.Offset+(i+1)*n]
}

// affine is x·W + b with W as [in, out].
func (p plain) affine(x []float64, layer string) []float64 {
	bias := p.tensor[layer+".bias"]
	y := make([]float64, bias.Len())
	copy(y, p.params[bias.Offset:])
	weight := p.params[p.tensor[layer+".weight"].Offset:]
	for i, v := range x {
		for j, w := range weight[i*len(y):][:len(y)] {
			y[j] += v * w
		}
	}
	return y
}

func norm(x []float64) []float64 {
	mean, variance := 0.0, 0.0
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x))
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = (v - mean) / math.Sqrt(variance+1e-5)
	}
	return y
}

func (p plain) activate(x []float64) []float64 {
	for i, v := range x {
		switch p.e.config.Activation {
		case "tanh":
			x[i] = math.Tanh(v)
		case "gelu":
			x[i] = v * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v))) / 2
		case "relu":
			x[i] = max(v, 0)
		case "leaky_relu":
			x[i] = max(v, 0.01*v)
		}
	}
	return x
}

func add(x, y []float64) {
	for i, v := range y {
		x[i] += v
	}
}

// readout is the encoder's output for a state with these features.
func (p plain) readout(features []int32) []float64 {
	c, s := p.e.config, p.e.sequence
	zero := func() []float64 { return make([]float64, c.Width) }
	tokens := [][]float64{zero()}
	add(tokens[0], p.row("embedding.readout", 0))
	for _, f := range features {
		pairs := s.Positions * s.Vocabulary
		if int(f) >= pairs {
			add(tokens[0], p.row("embedding.condition", int(f)-pairs))
			continue
		}
		x := zero()
		add(x, p.row("embedding.token", int(f)%s.Vocabulary))
		add(x, p.row("embedding.position", int(f)/s.Vocabulary))
		tokens = append(tokens, x)
	}
	for l := range c.Layers {
		name := func(part string) string { return fmt.Sprintf("layer.%d.%s", l, part) }
		var qkv [][]float64
		for _, x := range tokens {
			qkv = append(qkv, p.affine(norm(x), name("attention.in")))
		}
		for i, x := range tokens {
			add(x, p.affine(p.attend(qkv, i), name("attention.out")))
		}
		for _, x := range tokens {
			add(x, p.affine(p.activate(p.affine(norm(x), name("feedforward.up"))), name("feedforward.down")))
		}
	}
	return norm(tokens[0])
}

// attend is what token i reads from all.
func (p plain) attend(qkv [][]float64, i int) []float64 {
	w, d := p.e.config.Width, p.e.config.Width/p.e.config.Heads
	out := make([]float64, w)
	for lo := 0; lo < w; lo += d {
		weights, sum := make([]float64, len(qkv)), 0.0
		for j := range qkv {
			score := 0.0
			for k := lo; k < lo+d; k++ {
				score += qkv[i][k] * qkv[j][w+k]
			}
			weights[j] = math.Exp(score / math.Sqrt(float64(d)))
			sum += weights[j]
		}
		for j := range qkv {
			for k := lo; k < lo+d; k++ {
				out[k] += weights[j] / sum * qkv[j][2*w+k]
			}
		}
	}
	return out
}

// readouts are those of all states.
func (p plain) readouts(s *policy.States) (all [][]float64) {
	for i := range s.N {
		all = append(all, p.readout(s.FeatIndex[s.FeatOffset[i]:s.FeatOffset[i+1]]))
	}
	return all
}

// logProb is that of an action in a state, of which the heads read h.
func (p plain) logProb(head string, h []float64, mask []bool, state, n int, action int32) float64 {
	legal := mask[state*len(mask)/n:][:len(mask)/n]
	bias, learned := p.tensor[head+".bias"]
	sum, picked := 0.0, 0.0
	for a, ok := range legal {
		if !ok {
			continue
		}
		z := 0.0
		if learned {
			z = p.params[bias.Offset+a]
			for i, w := range p.row(head+".weight", a) {
				z += w * h[i]
			}
		}
		sum += math.Exp(z)
		if a == int(action) {
			picked = z
		}
	}
	return picked - math.Log(sum)
}

func (p plain) objective(b *policy.Batch, w *policy.Weights) (total float64) {
	h, n := p.readouts(&b.States), b.States.N
	for i, s := range b.FState {
		total += w.PF[i] * p.logProb("forward", h[s], b.States.ForwardMask, int(s), n, b.FAction[i])
	}
	for i, s := range b.BState {
		total += w.PB[i] * p.logProb("backward", h[s], b.States.BackwardMask, int(s), n, b.BAction[i])
	}
	if p.e.config.Flow {
		for i, weight := range w.F {
			total += weight * p.logF(h[i])
		}
	}
	return total
}

// logF is that of a state of which the head reads h.
func (p plain) logF(h []float64) float64 {
	sum := p.params[p.tensor["flow.bias"].Offset]
	for i, w := range p.row("flow.weight", 0) {
		sum += w * h[i]
	}
	return sum
}

// TestTransformerGradientIsTheSlope compares Backprop with central differences of
// the float64 objective, parameter by parameter.
func TestTransformerGradientIsTheSlope(t *testing.T) {
	for name, e := range encoders() {
		t.Run(name, func(t *testing.T) {
			e.config.Heads = min(e.config.Heads, 2)
			e.config.Width, e.config.Feedforward = 3*e.config.Heads, 5
			m := e.model(t)
			layout := m.Layout()
			r := rand.New(rand.NewPCG(2, 3))
			params := make([]float32, layout.Size())
			m.Init(params, 3)
			b := e.batch(r, 6, 3)
			w := policytest.RandomWeights(r, b)
			scores, grad := run(t, m, params, b, w)
			p := newPlain(e, layout, params)
			value := 0.0
			for i, logp := range scores.LogPF {
				value += w.PF[i] * logp
			}
			for i, logp := range scores.LogPB {
				value += w.PB[i] * logp
			}
			for i, log := range scores.LogF {
				value += w.F[i] * log
			}
			if want := p.objective(b, w); math.Abs(value-want) > 1e-4 {
				t.Errorf("objective %v, in float64 %v", value, want)
			}
			const h = 1e-5
			slopes := make([]float64, len(params))
			for i, v := range p.params {
				p.params[i] = v + h
				up := p.objective(b, w)
				p.params[i] = v - h
				slopes[i] = (up - p.objective(b, w)) / (2 * h)
				p.params[i] = v
			}
			policytest.WantNear(t, "against central differences", layout, grad, slopes, 1e-4)
		})
	}
}

// TestTransformerOfAnyShape compares log-probabilities of random architectures and
// states with the float64 ones, and the gradient with the slope along a direction.
func TestTransformerOfAnyShape(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkTransformer(t, drawEncoder(t), rapid.Uint64().Draw(t, "seed"))
	})
}

func FuzzTransformer(f *testing.F) {
	f.Add(uint64(1), uint8(2), uint8(2), uint8(6), uint8(5), uint8(3), uint8(1))
	f.Add(uint64(2), uint8(1), uint8(4), uint8(4), uint8(16), uint8(1), uint8(0))
	f.Fuzz(func(t *testing.T, seed uint64, layers, heads, width, positions, vocabulary, conditions uint8) {
		h := 1 + int(heads%4)
		checkTransformer(t, encoder{
			policy.TransformerConfig{Layers: 1 + int(layers%3), Heads: h, Width: h * (2 + int(width%12)), Activation: "gelu", Flow: seed%2 == 0},
			policy.Sequence{Positions: 1 + int(positions%20), Vocabulary: 1 + int(vocabulary%9), Conditions: int(conditions % 4)},
			[2]int{1 + int(seed%20), int(seed % 7)},
		}, seed)
	})
}

func checkTransformer(t failer, e encoder, seed uint64) {
	m, err := policy.NewTransformer(e.config, e.sequence, e.actions[0], e.actions[1])
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, 5))
	params := make([]float32, m.Layout().Size())
	m.Init(params, seed)
	b := e.batch(r, 8, 3)
	w := policytest.RandomWeights(r, b)
	scores, grad := run(t, m, params, b, w)
	p := newPlain(e, m.Layout(), params)
	read, n := p.readouts(&b.States), b.States.N
	for i, s := range b.FState {
		want := p.logProb("forward", read[s], b.States.ForwardMask, int(s), n, b.FAction[i])
		if got := scores.LogPF[i]; math.Abs(got-want) > 1e-3*(1+math.Abs(want)) {
			t.Fatalf("%+v: log P_F %v, want %v", e, got, want)
		}
	}
	for i, s := range b.BState {
		want := p.logProb("backward", read[s], b.States.BackwardMask, int(s), n, b.BAction[i])
		if got := scores.LogPB[i]; math.Abs(got-want) > 1e-3*(1+math.Abs(want)) {
			t.Fatalf("%+v: log P_B %v, want %v", e, got, want)
		}
	}
	for i, got := range scores.LogF {
		if want := p.logF(read[i]); math.Abs(got-want) > 1e-3*(1+math.Abs(want)) {
			t.Fatalf("%+v: log F %v, want %v", e, got, want)
		}
	}
	// The slope has a kink where a rectifier's input crosses zero: only smooth ones.
	if a := e.config.Activation; a != "gelu" && a != "tanh" || e.config.Width < 3 {
		return
	}
	length, want := 0.0, 0.0
	for _, g := range grad {
		length += float64(g) * float64(g)
	}
	if length = math.Sqrt(length); length == 0 {
		return
	}
	const h = 1e-5
	slope := 0.0
	for _, sign := range []float64{1, -1} {
		for i := range p.params {
			p.params[i] = float64(params[i]) + sign*h*float64(grad[i])/length
		}
		slope += sign * p.objective(b, w) / (2 * h)
	}
	for _, g := range grad {
		want += float64(g) * float64(g) / length
	}
	if math.Abs(slope-want) > 1e-2*(1+want) {
		t.Fatalf("%+v: slope %v along the gradient, want %v", e, slope, want)
	}
}
