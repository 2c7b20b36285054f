package policy

import "github.com/driftmesh/driftmesh/internal/kernels"

// backward is the backward pass of an mlpTape. What the trunk's first layer reads is
// sparse, and its outputs are computed again where they were not kept.
type backward struct {
	descent
	t     *mlpTape
	first buffer // outputs of the first layer for the chunk, unless they were kept

	transposes, inputs, weights func(part int)
}

func (k *backward) init(t *mlpTape) {
	k.t = t
	k.first.width = t.m.trunk[0].out
	k.descent.init(&t.crew, t.m.trunk, t.m.act, func(layer, from, to int) kernels.Matrix { return k.outputs(layer-1, from, to) })
	k.transposes, k.inputs, k.weights = k.runTransposes, k.runInputs, k.runWeights
}

// Backprop implements Tape. dlogits = Σ w·onehot − (Σ w)·π per state, the sums
// in the order of the transitions.
func (t *mlpTape) Backprop(w *Weights, grad []float32) error {
	b, err := t.scored(t.size, !t.m.head[flow].uniform, w, grad)
	if err != nil {
		return err
	}
	if !t.out.weigh(w, b) {
		return nil
	}
	k := &t.back
	k.begin(grad, &k.transposes)
	k.plan(b.States.N)
	t.states, t.from = &b.States, 0 // for the first layer
	defer func() { t.states = nil }()
	k.run(b.States.N, &k.inputs, &k.weights)
	return nil
}

// plan makes the tasks of a chunk and the room for its gradients.
func (k *backward) plan(n int) {
	rows, pieces := min(n, chunk), k.pieces(n)
	cores := max(pieces/2, 1)
	for i := len(k.layers) - 1; i >= 0; i-- { // the large ones first
		l := k.layers[i]
		k.gradients[i].grow(rows)
		if k.t.again(i) {
			k.first.grow(rows)
		}
		if i > 0 {
			k.cut(layerWeights, i, l.in, pieces)
		} else {
			k.cut(tableColumns, i, l.out, cores)
		}
	}
	for i, l := range k.layers {
		k.cut(layerBias, i, l.out, 1)
	}
	for dir, has := range k.t.out.has {
		if has {
			k.t.out.grad[dir].grow(rows)
			k.cut(headWeights, dir, k.t.m.head[dir].in, cores)
			k.tasks = append(k.tasks, task{kind: headBias, layer: dir})
		}
	}
}

// runTransposes turns a share of the layers' matrices.
func (k *backward) runTransposes(part int) { k.turn(k.t.params, part) }

// runInputs takes a block of the chunk's states back through the layers.
func (k *backward) runInputs(part int) {
	t := k.t
	from, to := k.rowsOf(part)
	top := len(k.layers) - 1
	if t.again(0) {
		t.gather(k.first.rows(from, to), k.lo+from, k.lo+to)
	}
	t.out.back(t.params, k.gradients[top].rows(from, to), from, k.lo+from, k.outputs(top, from, to), k.act)
	k.down(top, from, to)
}

// outputs are those of a layer for some of the chunk's states.
func (k *backward) outputs(layer, from, to int) kernels.Matrix {
	if k.t.again(layer) {
		return k.first.rows(from, to)
	}
	return k.t.hidden[layer].rows(k.lo+from, k.lo+to)
}

// runWeights computes one of the tasks for the chunk's states.
func (k *backward) runWeights(part int) {
	t, task, n := k.t, k.tasks[part], k.hi-k.lo
	switch task.kind {
	case tableColumns:
		table := k.layers[0].weight.matrix(k.grad).SliceCols(task.lo, task.hi)
		s := &t.batch.States
		kernels.ScatterAdd(table, k.gradients[0].rows(0, n).SliceCols(task.lo, task.hi), s.FeatOffset[k.lo:k.hi+1], s.FeatIndex)
	case headWeights:
		dw := t.m.head[task.layer].weight.matrix(k.grad).SliceCols(task.lo, task.hi)
		top := k.outputs(len(k.layers)-1, 0, n)
		kernels.MulTN(dw, t.out.gradients(Direction(task.layer), 0, n), top.SliceCols(task.lo, task.hi))
	case headBias:
		kernels.SumRows(t.m.head[task.layer].bias.of(k.grad), t.out.gradients(Direction(task.layer), 0, n))
	default:
		k.work(task)
	}
}
