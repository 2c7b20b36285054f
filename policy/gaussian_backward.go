package policy

import (
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/kernels"
)

// gaussianGrad is the backward pass of a gaussianTape, in chunks of states like that
// of an MLP: first the gradients with respect to all layers' outputs, a block of
// states for each part; then those with respect to the parameters, some rows of a
// matrix for each part. Every sum runs over the states in order, whatever the
// number of parts.
type gaussianGrad struct {
	t      *gaussianTape
	grad   []float32
	score  []float64        // gradients with respect to the network's outputs, by state
	layers []buffer         // gradients of the chunk with respect to the layers' outputs
	turned []kernels.Matrix // transposed weights of the layers but the first
	lo, hi int              // the states of the chunk
	tasks  []task

	transposes, inputs, weights func(part int)
}

func (k *gaussianGrad) init(t *gaussianTape) {
	k.t = t
	for i, l := range t.m.layers {
		k.layers = append(k.layers, buffer{width: l.out})
		turned := kernels.Matrix{}
		if i > 0 {
			turned = kernels.Matrix{Rows: l.out, Cols: l.in, Stride: l.in}
		}
		k.turned = append(k.turned, turned)
	}
	k.transposes, k.inputs, k.weights = k.runTransposes, k.runInputs, k.runWeights
}

// Backprop implements Tape. P_B has no parameters, and its weights no effect.
func (t *gaussianTape) Backprop(w *Weights, grad []float32) error {
	b, err := t.scored(t.size, w, grad)
	if err != nil {
		return err
	}
	k := &t.grad
	if len(w.PF) == 0 {
		return nil
	}
	k.sum(w.PF, b)
	for i := range k.turned {
		resize(&k.turned[i].Data, k.turned[i].Rows*k.turned[i].Cols)
	}
	t.do(t.num(), &k.transposes)
	k.grad = grad
	k.plan(b.States.N)
	for k.lo = 0; k.lo < b.States.N; k.lo = k.hi {
		k.hi = min(k.lo+chunk, b.States.N)
		t.block = t.blockOf(k.hi - k.lo)
		t.do((k.hi-k.lo+t.block-1)/t.block, &k.inputs)
		t.do(len(k.tasks), &k.weights)
	}
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
	for i, s := range b.FState {
		if w[i] == 0 {
			continue
		}
		moments := t.moments[int(s)*2*d : (int(s)+1)*2*d]
		to := k.score[int(s)*out : (int(s)+1)*out]
		reach := m.reach(int(b.States.Dense[int(s)*m.dense]))
		for j := range d {
			std := moments[d+j]
			z := (float64(envs.Coordinate(b.FAction[i*d+j])) - moments[j]) / std
			to[j] += float64(w[i] * z / std * reach)
			if m.learnStd {
				tanh := math.Log(std/reference) / stdRange
				to[d+j] += float64(w[i] * (float64(z*z) - 1) * stdRange * (1 - float64(tanh*tanh)))
			}
		}
	}
}

// plan makes the tasks of a chunk and the room for its gradients.
func (k *gaussianGrad) plan(n int) {
	rows, pieces := min(n, chunk), 1
	if n > thinBlock && k.t.num() > 1 {
		pieces = 2 * k.t.num()
	}
	k.tasks = k.tasks[:0]
	for i := len(k.t.m.layers) - 1; i >= 0; i-- {
		l := k.t.m.layers[i]
		k.layers[i].grow(rows)
		step := max((l.in/pieces+vector-1)/vector*vector, vector)
		for lo := 0; lo < l.in; lo += step {
			k.tasks = append(k.tasks, task{layerWeights, i, lo, min(lo+step, l.in)})
		}
	}
	for i, l := range k.t.m.layers {
		k.tasks = append(k.tasks, task{layerBias, i, 0, l.out})
	}
}

// runTransposes turns a share of the layers' matrices.
func (k *gaussianGrad) runTransposes(part int) {
	turn(k.turned, k.t.m.layers, k.t.params, part, k.t.num())
}

// runInputs takes a block of the chunk's states back through the layers.
func (k *gaussianGrad) runInputs(part int) {
	t := k.t
	from := part * t.block // within the chunk
	to := min(from+t.block, k.hi-k.lo)
	top := len(t.m.layers) - 1
	d, out := k.layers[top].rows(from, to), t.m.outputs()
	for i := from; i < to; i++ {
		row := d.Row(i - from)
		for j, g := range k.score[(k.lo+i)*out : (k.lo+i+1)*out] {
			row[j] = float32(g)
		}
	}
	for i := top; i > 0; i-- {
		below := k.layers[i-1].rows(from, to)
		kernels.LayerBackward(below, d, k.turned[i], t.acts[i].rows(k.lo+from, k.lo+to), t.m.act, false)
		d = below
	}
}

// runWeights computes one of the tasks for the chunk's states.
func (k *gaussianGrad) runWeights(part int) {
	t, task := k.t, k.tasks[part]
	l, n := t.m.layers[task.layer], k.hi-k.lo
	if task.kind == layerBias {
		kernels.SumRows(l.bias.of(k.grad), k.layers[task.layer].rows(0, n))
		return
	}
	dw := l.weight.matrix(k.grad).SliceRows(task.lo, task.hi)
	kernels.MulTN(dw, t.acts[task.layer].rows(k.lo, k.hi).SliceCols(task.lo, task.hi), k.layers[task.layer].rows(0, n))
}
