package policy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/policy/policytest"
)

// normalised is LayerNorm of the rows of x: means and variances are products with
// a matrix of 1/width.
func (o *graph) normalised(name string, x *G.Node, rows, width int) *G.Node {
	average := o.matrix(name+".average", width, width, func(int, int) float64 { return 1 / float64(width) })
	epsilon := o.matrix(name+".epsilon", rows, width, func(int, int) float64 { return 1e-5 })
	centred := o.must(G.Sub(x, o.must(G.Mul(x, average))))
	variance := o.must(G.Mul(o.must(G.Square(centred)), average))
	return o.must(G.HadamardDiv(centred, o.must(G.Sqrt(o.must(G.Add(variance, epsilon))))))
}

// columns picks some of the columns of x by a product.
func (o *graph) columns(name string, x *G.Node, width, from, n int) *G.Node {
	return o.must(G.Mul(x, o.matrix(name, width, n, func(i, j int) float64 {
		if i == from+j {
			return 1
		}
		return 0
	})))
}

// placed is a matrix of rows with x, which is one row, in row at and zeros elsewhere.
// (Gorgonia takes a column times a row for something else than a product.)
func (o *graph) placed(name string, x *G.Node, rows, width, at int) *G.Node {
	nothing := o.matrix(name+".nothing", rows, width, func(int, int) float64 { return 0 })
	mask := o.matrix(name+".mask", rows, width, func(i, _ int) float64 {
		if i == at {
			return 1
		}
		return 0
	})
	if rows == 1 {
		return o.must(G.HadamardProd(x, mask))
	}
	return o.must(G.HadamardProd(o.must(G.BroadcastAdd(nothing, x, nil, []byte{0})), mask))
}

// attention is softmax(q·kᵀ/√d)·v for each head, put back beside each other.
func (o *graph) attention(name string, qkv *G.Node, rows, width, heads int) *G.Node {
	if rows == 1 { // it reads itself
		return o.columns(name+".value", qkv, 3*width, 2*width, width)
	}
	d := width / heads
	ones := o.matrix(name+".ones", rows, rows, func(int, int) float64 { return 1 })
	scale := o.matrix(name+".scale", rows, rows, func(int, int) float64 { return 1 / math.Sqrt(float64(d)) })
	var out *G.Node
	for h := range heads {
		head := func(part string, from int) *G.Node {
			return o.columns(fmt.Sprint(name, ".", part, h), qkv, 3*width, from+h*d, d)
		}
		q, k, v := head("query", 0), head("key", width), head("value", 2*width)
		scores := o.must(G.HadamardProd(o.must(G.Mul(q, o.must(G.Transpose(k, 1, 0)))), scale))
		exp := o.must(G.Exp(scores))
		read := o.must(G.Mul(o.must(G.HadamardDiv(exp, o.must(G.Mul(exp, ones)))), v))
		placed := o.must(G.Mul(read, o.matrix(fmt.Sprint(name, ".place", h), d, width, func(i, j int) float64 {
			if j == h*d+i {
				return 1
			}
			return 0
		})))
		if out == nil {
			out = placed
		} else {
			out = o.must(G.Add(out, placed))
		}
	}
	return out
}

func (o *graph) activate(name string, x *G.Node, rows, width int, activation string) *G.Node {
	constant := func(part string, v float64) *G.Node {
		return o.matrix(name+"."+part, rows, width, func(int, int) float64 { return v })
	}
	switch activation {
	case "relu":
		return o.must(G.Rectify(x))
	case "leaky_relu":
		return o.must(G.LeakyRelu(x, 0.01))
	case "tanh":
		return o.must(G.Tanh(x))
	}
	cube := o.must(G.HadamardProd(o.must(G.HadamardProd(o.must(G.Square(x)), x)), constant("cube", 0.044715)))
	u := o.must(G.HadamardProd(o.must(G.Add(x, cube)), constant("scale", math.Sqrt(2/math.Pi))))
	gate := o.must(G.Add(o.must(G.Tanh(u)), constant("one", 1)))
	return o.must(G.HadamardProd(o.must(G.HadamardProd(x, gate)), constant("half", 0.5)))
}

// encode is the transformer's output for one state: its embeddings are products
// of the tables with matrices of zeros and ones.
func (o *graph) encode(e encoder, tables map[string]*G.Node, name string, features []int32) *G.Node {
	c, s := e.config, e.sequence
	pairs := s.Positions * s.Vocabulary
	var tokens, conditions []int
	for _, f := range features {
		if int(f) < pairs {
			tokens = append(tokens, int(f))
		} else {
			conditions = append(conditions, int(f)-pairs)
		}
	}
	rows := len(tokens) + 1
	where := func(table string, n int, is func(i, j int) bool) *G.Node {
		return o.must(G.Mul(o.matrix(name+"."+table, rows, n, func(i, j int) float64 {
			if is(i, j) {
				return 1
			}
			return 0
		}), tables["embedding."+table]))
	}
	x := o.must(G.Add(
		where("token", s.Vocabulary, func(i, j int) bool { return i > 0 && tokens[i-1]%s.Vocabulary == j }),
		where("position", s.Positions, func(i, j int) bool { return i > 0 && tokens[i-1]/s.Vocabulary == j })))
	x = o.must(G.Add(x, o.placed(name+".readout", tables["embedding.readout"], rows, c.Width, 0)))
	if s.Conditions > 0 {
		x = o.must(G.Add(x, where("condition", s.Conditions, func(i, j int) bool {
			for _, k := range conditions {
				if i == 0 && j == k {
					return true
				}
			}
			return false
		})))
	}
	up := c.Feedforward
	if up == 0 {
		up = 4 * c.Width
	}
	for l := range c.Layers {
		at := fmt.Sprintf("%s.%d", name, l)
		layer := func(part string, x *G.Node) *G.Node {
			part = fmt.Sprintf("layer.%d.%s", l, part)
			xw := o.must(G.Mul(x, tables[part+".weight"]))
			if rows == 1 {
				return o.must(G.Add(xw, tables[part+".bias"]))
			}
			return o.must(G.BroadcastAdd(xw, tables[part+".bias"], nil, []byte{0}))
		}
		qkv := layer("attention.in", o.normalised(at+".first", x, rows, c.Width))
		x = o.must(G.Add(x, layer("attention.out", o.attention(at, qkv, rows, c.Width, c.Heads))))
		hidden := o.activate(at, layer("feedforward.up", o.normalised(at+".second", x, rows, c.Width)), rows, up, c.Activation)
		x = o.must(G.Add(x, layer("feedforward.down", hidden)))
	}
	if rows == 1 {
		return o.normalised(name+".top", x, 1, c.Width)
	}
	first := o.matrix(name+".first", 1, rows, func(_, j int) float64 {
		if j == 0 {
			return 1
		}
		return 0
	})
	return o.normalised(name+".top", o.must(G.Mul(first, x)), 1, c.Width)
}

// TestTransformerGradientOracle compares scores and gradients with Gorgonia's.
func TestTransformerGradientOracle(t *testing.T) {
	for name, e := range encoders() {
		if e.actions[1] == 0 || e.config.UniformBackward {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m := e.model(t)
			layout := m.Layout()
			for seed := range uint64(2) {
				r := rand.New(rand.NewPCG(seed, 7))
				params := make([]float32, layout.Size())
				m.Init(params, seed)
				b := e.batch(r, 5, 4)
				w := policytest.RandomWeights(r, b)
				scores, grad := run(t, m, params, b, w)
				wantValue, wantGrad := transformerOracle(t, e, layout, params, b, w)
				value, scale := 0.0, 0.0
				add := func(w, logp []float64) {
					for i := range w {
						value += w[i] * logp[i]
						scale += math.Abs(w[i] * logp[i])
					}
				}
				add(w.PF, scores.LogPF)
				add(w.PB, scores.LogPB)
				add(w.F[:len(scores.LogF)], scores.LogF)
				if math.Abs(value-wantValue) > 1e-5*scale {
					t.Errorf("seed %d: objective %v, Gorgonia %v", seed, value, wantValue)
				}
				policytest.WantNear(t, fmt.Sprintf("seed %d: against Gorgonia", seed), layout, grad, wantGrad, 2e-5)
			}
		})
	}
}

// transformerOracle returns the objective Σ w·log-prob and its gradient.
func transformerOracle(t *testing.T, e encoder, layout policy.Layout, params []float32, b *policy.Batch, w *policy.Weights) (float64, []float64) {
	t.Helper()
	o := &graph{t: t, g: G.NewGraph(), layout: layout, params: params, nodes: map[string]*G.Node{}}
	isHead := func(name string) bool {
		return name == "forward.weight" || name == "backward.weight" || name == "flow.weight"
	}
	for _, p := range layout {
		if strings.HasPrefix(p.Name, "embedding.") || strings.HasPrefix(p.Name, "layer.") {
			o.weight(p.Name, false)
		}
	}
	var h *G.Node
	for i := range b.States.N {
		features := b.States.FeatIndex[b.States.FeatOffset[i]:b.States.FeatOffset[i+1]]
		name := fmt.Sprint("state", i)
		row := o.placed(name+".placed", o.encode(e, o.nodes, name, features), b.States.N, e.config.Width, i)
		if h == nil {
			h = row
		} else {
			h = o.must(G.Add(h, row))
		}
	}
	objective := o.must(G.Add(
		o.head(h, "forward", b.States.N, e.actions[0], b.States.ForwardMask, b.FState, b.FAction, w.PF),
		o.head(h, "backward", b.States.N, e.actions[1], b.States.BackwardMask, b.BState, b.BAction, w.PB)))
	objective = o.addFlows(objective, h, b.States.N, w.F)
	var inputs G.Nodes
	for _, p := range layout {
		inputs = append(inputs, o.nodes[p.Name])
	}
	if _, err := G.Grad(objective, inputs...); err != nil {
		t.Fatal(err)
	}
	vm := G.NewTapeMachine(o.g, G.BindDualValues(inputs...))
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	grad := make([]float64, layout.Size())
	for i, p := range layout {
		value, err := inputs[i].Grad()
		if err != nil {
			t.Fatal(err)
		}
		for k, g := range value.Data().([]float64) {
			to := k
			if isHead(p.Name) { // the node is [in, out], the tensor [out, in]
				to = k%p.Shape[0]*p.Shape[1] + k/p.Shape[0]
			}
			grad[p.Offset+to] = g
		}
	}
	return objective.Value().Data().(float64), grad
}
