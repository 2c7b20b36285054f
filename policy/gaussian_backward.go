package policy

import (
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/kernels"
)

// gaussianGrad is the backward pass of a gaussianTape. The last of its layers is
// P_F's head; that of log F lies beside it.
type gaussianGrad struct {
	descent
	t     *gaussianTape
	score []float64 // gradients with respect to the network's outputs, by state
	flows []float64 // weights of log F, by state; empty: none
	flow  buffer    // those of the chunk

	transposes, inputs, weights func(part int)
}

func (k *gaussianGrad) init(t *gaussianTape) {
	k.t = t
	k.flow.width = 1
	k.descent.init(&t.crew, t.m.layers, t.m.act, func(layer, from, to int) kernels.Matrix {
		return t.acts[layer].rows(k.lo+from, k.lo+to)
	})
	k.transposes, k.inputs, k.weights = k.runTransposes, k.runInputs, k.runWeights
}

// Backprop implements Tape. P_B has no parameters, and its weights no effect.
func (t *gaussianTape) Backprop(w *Weights, grad []float32) error {
	flows := !t.m.flow.uniform
	b, err := t.scored(t.size, flows, w, grad)
	if err != nil {
		return err
	}
	k := &t.grad
	if k.flows = nil; flows {
		k.flows = w.F
	}
	if len(w.PF) == 0 && len(k.flows) == 0 {
		return nil
	}
	k.sum(w.PF, b)
	k.begin(grad, &k.transposes)
	k.plan(b.States.N)
	k.run(b.States.N, &k.inputs, &k.weights)
	return nil
}

// sum adds up the gradients of the log-densities with respect to the outputs u, and
// to those that a standard deviation s = e^{stdRange·tanh(o)} is made of:
//
//	∂ log N/∂u = (x' − mean)/std² · σΔ/√(1−tΔ)     ∂ log N/∂o = (z² − 1)·stdRange·(1 − tanh²(o))
func (k *gaussianGrad) sum(w []float64, b *Batch) {
	t, m, d := k.t, k.t.m, k.t.m.dim
	out := m.outputs()
	clear(resize(&k.score, b.States.N*out))
	reference := m.sigma * math.Sqrt(m.delta())
	for i, weight := range w {
		if weight == 0 {
			continue
		}
		s := b.FState[i]
		moments := t.moments[int(s)*2*d : (int(s)+1)*2*d]
		to := k.score[int(s)*out : (int(s)+1)*out]
		reach := m.reach(int(b.States.Dense[int(s)*m.dense]))
		for j := range d {
			std := moments[d+j]
			z := (float64(envs.Coordinate(b.FAction[i*d+j])) - moments[j]) / std
			to[j] += float64(weight * z / std * reach)
			if m.learnStd {
				tanh := math.Log(std/reference) / stdRange
				to[d+j] += float64(weight * (float64(z*z) - 1) * stdRange * (1 - float64(tanh*tanh)))
			}
		}
	}
}

// plan makes the tasks of a chunk and the room for its gradients.
func (k *gaussianGrad) plan(n int) {
	rows, pieces := min(n, chunk), k.pieces(n)
	for i := len(k.layers) - 1; i >= 0; i-- {
		k.gradients[i].grow(rows)
		k.cut(layerWeights, i, k.layers[i].in, pieces)
	}
	for i, l := range k.layers {
		k.cut(layerBias, i, l.out, 1)
	}
	if len(k.flows) > 0 {
		k.flow.grow(rows)
		k.tasks = append(k.tasks, task{kind: headWeights})
	}
}

// runTransposes turns a share of the layers' matrices.
func (k *gaussianGrad) runTransposes(part int) { k.turn(k.t.params, part) }

// runInputs takes a block of the chunk's states back through the layers.
func (k *gaussianGrad) runInputs(part int) {
	from, to := k.rowsOf(part)
	top, out := len(k.layers)-1, k.t.m.outputs()
	d := k.gradients[top].rows(from, to)
	for i := from; i < to; i++ {
		row := d.Row(i - from)
		for j, g := range k.score[(k.lo+i)*out : (k.lo+i+1)*out] {
			row[j] = float32(g)
		}
	}
	if len(k.flows) > 0 {
		k.joinFlows(from, to)
		top--
	}
	k.down(top, from, to)
}

// joinFlows goes back from both heads to the layer below them.
func (k *gaussianGrad) joinFlows(from, to int) {
	top, d := len(k.layers)-1, k.flow.rows(from, to)
	for i := from; i < to; i++ {
		d.Row(i - from)[0] = float32(k.flows[k.lo+i])
	}
	below := k.gradients[top-1].rows(from, to)
	kernels.LayerBackward(below, k.gradients[top].rows(from, to), k.turned[top], kernels.Matrix{}, kernels.Linear, false)
	kernels.LayerBackward(below, d, k.t.m.flow.weight.matrix(k.t.params), k.input(top, from, to), k.act, true)
}

// runWeights computes one of the tasks for the chunk's states.
func (k *gaussianGrad) runWeights(part int) {
	task := k.tasks[part]
	if task.kind != headWeights {
		k.work(task)
		return
	}
	l, n := k.t.m.flow, k.hi-k.lo
	kernels.MulTN(l.weight.matrix(k.grad), k.flow.rows(0, n), k.input(len(k.layers)-1, 0, n))
	kernels.SumRows(l.bias.of(k.grad), k.flow.rows(0, n))
}
