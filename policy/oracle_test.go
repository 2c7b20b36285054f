package policy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/policy/policytest"
)

// graph is the MLP as a Gorgonia graph in float64: dense features, masks by
// multiplication, gradients by its own differentiation. It shares nothing with
// the tape but the layout of the parameters.
type graph struct {
	t      *testing.T
	g      *G.ExprGraph
	layout policy.Layout
	params []float32
	nodes  map[string]*G.Node
}

func (o *graph) must(n *G.Node, err error) *G.Node {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
	return n
}

// matrix is a node with a value.
func (o *graph) matrix(name string, rows, cols int, at func(i, j int) float64) *G.Node {
	data := make([]float64, rows*cols)
	for i := range rows {
		for j := range cols {
			data[i*cols+j] = at(i, j)
		}
	}
	value := tensor.New(tensor.WithShape(rows, cols), tensor.WithBacking(data))
	return G.NewMatrix(o.g, tensor.Float64, G.WithName(name), G.WithShape(rows, cols), G.WithValue(value))
}

// weight is a parameter matrix as [in, out]; heads are stored transposed.
func (o *graph) weight(name string, transposed bool) *G.Node {
	p, _ := o.layout.Find(name)
	if transposed {
		n := o.matrix(name, p.Shape[1], p.Shape[0], func(i, j int) float64 { return float64(o.params[p.Offset+j*p.Shape[1]+i]) })
		o.nodes[name] = n
		return n
	}
	rows := 1
	if len(p.Shape) == 2 {
		rows = p.Shape[0]
	}
	cols := p.Len() / rows
	n := o.matrix(name, rows, cols, func(i, j int) float64 { return float64(o.params[p.Offset+i*cols+j]) })
	o.nodes[name] = n
	return n
}

func (o *graph) affine(x *G.Node, layer string, transposed bool) *G.Node {
	xw := o.must(G.Mul(x, o.weight(layer+".weight", transposed)))
	return o.must(G.BroadcastAdd(xw, o.weight(layer+".bias", false), nil, []byte{0}))
}

// head is Σ w·log-prob over one policy's transitions, = Σ D∘z − Σ_s W_s·lse_s,
// where D sums the weights of each (state, action) and W of each state.
func (o *graph) head(h *G.Node, layer string, n, actions int, mask []bool, state, action []int32, w []float64) *G.Node {
	z := o.affine(h, layer, true)
	sums, totals := make([]float64, n*actions), make([]float64, n)
	for i, s := range state {
		sums[int(s)*actions+int(action[i])] += w[i]
		totals[s] += w[i]
	}
	legal := func(i, a int) float64 {
		for j := range actions {
			if mask[i*actions+j] {
				if mask[i*actions+a] {
					return 1
				}
				return 0
			}
		}
		return 1 // no legal action: never scored, and log 0 must not arise
	}
	d := o.matrix(layer+".sums", n, actions, func(i, a int) float64 { return sums[i*actions+a] })
	ones := o.matrix(layer+".ones", actions, 1, func(int, int) float64 { return 1 })
	total := o.matrix(layer+".totals", n, 1, func(i, _ int) float64 { return totals[i] })
	exp := o.must(G.HadamardProd(o.must(G.Exp(z)), o.matrix(layer+".mask", n, actions, legal)))
	lse := o.must(G.Log(o.must(G.Mul(exp, ones))))
	picked := o.must(G.Sum(o.must(G.HadamardProd(d, z))))
	return o.must(G.Sub(picked, o.must(G.Sum(o.must(G.HadamardProd(total, lse))))))
}

// addFlows adds Σ w·log F, if the model has flows.
func (o *graph) addFlows(objective, h *G.Node, n int, w []float64) *G.Node {
	if _, flows := o.layout.Find("flow.weight"); !flows {
		return objective
	}
	weights := o.matrix("flow.given", n, 1, func(i, _ int) float64 { return w[i] })
	return o.must(G.Add(objective, o.must(G.Sum(o.must(G.HadamardProd(weights, o.affine(h, "flow", true)))))))
}

// oracle returns the objective Σ w·log-prob and its gradient.
func oracle(t *testing.T, v variant, layout policy.Layout, params []float32, b *policy.Batch, w *policy.Weights) (float64, []float64) {
	t.Helper()
	o := &graph{t: t, g: G.NewGraph(), layout: layout, params: params, nodes: map[string]*G.Node{}}
	n, s := b.States.N, &b.States
	h := o.matrix("features", n, v.shape.Features, func(i, f int) float64 {
		for _, active := range s.FeatIndex[s.FeatOffset[i]:s.FeatOffset[i+1]] {
			if int(active) == f {
				return 1
			}
		}
		return 0
	})
	for i := range v.config.Hidden {
		h = o.affine(h, fmt.Sprintf("trunk.%d", i), false)
		switch v.config.Activation {
		case "relu":
			h = o.must(G.Rectify(h))
		case "leaky_relu":
			h = o.must(G.LeakyRelu(h, 0.01))
		case "tanh":
			h = o.must(G.Tanh(h))
		}
	}
	objective := o.head(h, "forward", n, v.shape.Actions, s.ForwardMask, b.FState, b.FAction, w.PF)
	uniform := 0.0
	if _, learned := layout.Find("backward.weight"); learned {
		objective = o.must(G.Add(objective,
			o.head(h, "backward", n, v.shape.BackwardActions, s.BackwardMask, b.BState, b.BAction, w.PB)))
	} else {
		for i, at := range b.BState {
			parents := 0.0
			for _, ok := range s.BackwardMask[int(at)*v.shape.BackwardActions:][:v.shape.BackwardActions] {
				if ok {
					parents++
				}
			}
			uniform -= w.PB[i] * math.Log(parents)
		}
	}
	objective = o.addFlows(objective, h, n, w.F)
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
		flat := value.Data().([]float64)
		head := p.Name == "forward.weight" || p.Name == "backward.weight" || p.Name == "flow.weight"
		for k := range flat {
			to := k
			if head { // the node is [in, out], the tensor [out, in]
				out := p.Shape[0]
				to = k%out*p.Shape[1] + k/out
			}
			grad[p.Offset+to] = flat[k]
		}
	}
	return objective.Value().Data().(float64) + uniform, grad
}

// TestGradientOracle compares scores and gradients with Gorgonia's.
func TestGradientOracle(t *testing.T) {
	for name, v := range variants() {
		if v.shape.BackwardActions == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m := v.model(t)
			layout := m.Layout()
			for seed := range uint64(4) {
				r := rand.New(rand.NewPCG(seed, 7))
				params := make([]float32, layout.Size())
				m.Init(params, seed)
				b := policytest.RandomBatch(r, v.shape, 4+r.IntN(40), 1+r.IntN(20))
				w := policytest.RandomWeights(r, b)
				wantValue, wantGrad := oracle(t, v, layout, params, b, w)

				tape, scores := m.NewTape(), policy.Scores{}
				grad := make([]float32, layout.Size())
				if err := tape.Score(params, b, &scores); err != nil {
					t.Fatal(err)
				}
				if err := tape.Backprop(w, grad); err != nil {
					t.Fatal(err)
				}
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
				policytest.WantNear(t, fmt.Sprintf("seed %d: against Gorgonia", seed), layout, grad, wantGrad, 1e-5)
			}
		})
	}
}
