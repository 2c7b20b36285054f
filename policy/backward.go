package policy

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// backward is the backward pass of an mlpTape. States go through it in chunks, so
// that what it needs of them stays in the caches: first the gradients with
// respect to all layers' inputs, a block of states for each part; then those with
// respect to the parameters, some rows or columns of a matrix for each part. So
// every sum runs over the states in order, whatever the number of parts.
type backward struct {
	t *mlpTape

	grad   []float32
	heads  [3]headBackward  // as the model's
	first  buffer           // outputs of the first layer for the chunk, unless they were kept
	layers []buffer         // gradients of the chunk with respect to the inputs of the activations
	turned []kernels.Matrix // transposed weights of the layers but the first
	lo, hi int              // the states of the chunk
	tasks  []task

	transposes, inputs, weights func(part int)
}

// headBackward is the part of a backward pass that a head needs.
type headBackward struct {
	on     bool      // it has weights
	weight []float64 // sum of the weights of each (state, action); of the flow, those given
	logits buffer    // gradients of the chunk
}

// task is a part of the gradient with respect to the parameters: rows lo..hi-1 of
// the matrix of a layer, or such columns where it is a head's, the first layer's
// or a bias.
type task struct {
	kind   taskKind
	layer  int // or head
	lo, hi int
}

type taskKind int

const (
	layerWeights taskKind = iota
	layerBias
	tableColumns
	headWeights
	headBias
)

// chunk is how many states go through the backward pass together.
const chunk = 1024

func (k *backward) init(t *mlpTape) {
	k.t = t
	k.first.width = t.m.trunk[0].out
	for i, l := range t.m.trunk {
		k.layers = append(k.layers, buffer{width: l.out})
		turned := kernels.Matrix{}
		if i > 0 {
			turned = kernels.Matrix{Rows: l.out, Cols: l.in, Stride: l.in}
		}
		k.turned = append(k.turned, turned)
	}
	for dir := range k.heads {
		k.heads[dir].logits.width = padded(t.m.head[dir].out)
	}
	k.transposes, k.inputs, k.weights = k.runTransposes, k.runInputs, k.runWeights
}

// Backprop implements Tape. dlogits = Σ w·onehot − (Σ w)·π per state, the sums
// in the order of the transitions.
func (t *mlpTape) Backprop(w *Weights, grad []float32) error {
	b, k := t.batch, &t.back
	if b == nil {
		return ErrNoScore
	}
	if len(grad) < t.size {
		return fmt.Errorf("%w: a gradient of %d, the model has %d parameters", ErrShape, len(grad), t.size)
	}
	if w.PF != nil && len(w.PF) != len(b.FState) || w.PB != nil && len(w.PB) != len(b.BState) {
		return fmt.Errorf("%w: %d and %d weights for %d forward and %d backward transitions",
			ErrShape, len(w.PF), len(w.PB), len(b.FState), len(b.BState))
	}
	flows := !t.m.head[flow].uniform
	if flows && w.F != nil && len(w.F) != b.States.N {
		return fmt.Errorf("%w: %d weights of flows for %d states", ErrShape, len(w.F), b.States.N)
	}
	k.sum(Forward, w.PF, b.FState, b.FAction, b.States.N)
	k.sum(Backward, w.PB, b.BState, b.BAction, b.States.N)
	k.heads[flow].on, k.heads[flow].weight = flows && len(w.F) > 0, w.F
	if k.lastHead() < 0 {
		return nil
	}
	for i := range k.turned {
		resize(&k.turned[i].Data, k.turned[i].Rows*k.turned[i].Cols)
	}
	t.do(t.num(), &k.transposes)
	k.grad = grad
	k.plan(b.States.N)
	t.states, t.from = &b.States, 0 // for the first layer
	defer func() { t.states = nil }()
	for k.lo = 0; k.lo < b.States.N; k.lo = k.hi {
		k.hi = min(k.lo+chunk, b.States.N)
		t.block = t.blockOf(k.hi - k.lo)
		t.do((k.hi-k.lo+t.block-1)/t.block, &k.inputs)
		t.do(len(k.tasks), &k.weights)
	}
	return nil
}

// lastHead is the last of the heads that have weights, or -1.
func (k *backward) lastHead() int {
	last := -1
	for i := range k.heads {
		if k.heads[i].on {
			last = i
		}
	}
	return last
}

// sum adds up the weights of each (state, action).
func (k *backward) sum(dir Direction, w []float64, state, action []int32, n int) {
	h, out := &k.heads[dir], k.t.m.head[dir].out
	if h.on = len(w) > 0 && !k.t.m.head[dir].uniform; !h.on {
		return
	}
	clear(resize(&h.weight, n*out))
	for i, s := range state {
		h.weight[int(s)*out+int(action[i])] += w[i]
	}
}

// plan makes the tasks of a chunk and the room for its gradients.
func (k *backward) plan(n int) {
	rows, cores, pieces := min(n, chunk), 1, 1
	if n > thinBlock && k.t.num() > 1 {
		cores = k.t.num()
		pieces = 2 * cores // the largest matrices: who has begun late has less to do
	}
	k.tasks = k.tasks[:0]
	cut := func(kind taskKind, layer, size, parts int) { // in whole vectors, for products like them
		step := max((size/parts+vector-1)/vector*vector, vector)
		for lo := 0; lo < size; lo += step {
			k.tasks = append(k.tasks, task{kind, layer, lo, min(lo+step, size)})
		}
	}
	for i := len(k.t.m.trunk) - 1; i >= 0; i-- { // the large ones first
		l := k.t.m.trunk[i]
		k.layers[i].grow(rows)
		if k.t.again(i) {
			k.first.grow(rows)
		}
		if i > 0 {
			cut(layerWeights, i, l.in, pieces)
		} else {
			cut(tableColumns, i, l.out, cores)
		}
	}
	for i, l := range k.t.m.trunk {
		cut(layerBias, i, l.out, 1)
	}
	for dir := range k.heads {
		if h := &k.heads[dir]; h.on {
			h.logits.grow(rows)
			cut(headWeights, dir, k.t.m.head[dir].in, cores)
			k.tasks = append(k.tasks, task{kind: headBias, layer: dir})
		}
	}
}

// runTransposes turns a share of the rows of every layer's matrix but the first's.
func (k *backward) runTransposes(part int) {
	for i := 1; i < len(k.turned); i++ {
		w := k.t.m.trunk[i].weight.matrix(k.t.params)
		share := (w.Rows + k.t.num() - 1) / k.t.num()
		step := (share + vector - 1) / vector * vector // whole tiles
		if from, to := part*step, min((part+1)*step, w.Rows); from < to {
			kernels.Transpose(k.turned[i].SliceCols(from, to), w.SliceRows(from, to))
		}
	}
}

// runInputs takes a block of the chunk's states back through the layers.
func (k *backward) runInputs(part int) {
	t := k.t
	from := part * t.block // within the chunk
	to := min(from+t.block, k.hi-k.lo)
	top := len(t.m.trunk) - 1
	d := k.layers[top].rows(from, to)
	if t.again(0) {
		t.gather(k.first.rows(from, to), k.lo+from, k.lo+to)
	}
	act, add, last := kernels.Linear, false, k.lastHead()
	for dir := range k.heads {
		h, l := &k.heads[dir], t.m.head[dir]
		if !h.on {
			continue
		}
		g := h.rows(l.out, from, to)
		lo, hi := (k.lo+from)*l.out, (k.lo+to)*l.out
		if Direction(dir) == flow {
			for i, w := range h.weight[lo:hi] {
				g.Row(i)[0] = float32(w)
			}
		} else {
			kernels.LogSoftmaxBackward(g, t.heads[dir].prob[lo:hi], h.weight[lo:hi])
		}
		if dir == last {
			act = t.m.act
		}
		kernels.LayerBackward(d, g, l.weight.matrix(t.params), k.outputs(top, from, to), act, add)
		add = true
	}
	for i := top; i > 0; i-- {
		below := k.layers[i-1].rows(from, to)
		kernels.LayerBackward(below, d, k.turned[i], k.outputs(i-1, from, to), t.m.act, false)
		d = below
	}
}

// outputs are those of a layer for some of the chunk's states.
func (k *backward) outputs(layer, from, to int) kernels.Matrix {
	if k.t.again(layer) {
		return k.first.rows(from, to)
	}
	return k.t.hidden[layer].rows(k.lo+from, k.lo+to)
}

// rows are the gradients of some of the chunk's states.
func (h *headBackward) rows(actions, from, to int) kernels.Matrix {
	m := h.logits.rows(from, to)
	m.Cols = actions
	return m
}

// runWeights computes one of the tasks for the chunk's states.
func (k *backward) runWeights(part int) {
	t, task := k.t, k.tasks[part]
	n := k.hi - k.lo
	switch task.kind {
	case layerWeights:
		l := t.m.trunk[task.layer]
		dw := l.weight.matrix(k.grad).SliceRows(task.lo, task.hi)
		kernels.MulTN(dw, k.outputs(task.layer-1, 0, n).SliceCols(task.lo, task.hi), k.layers[task.layer].rows(0, n))
	case tableColumns:
		table := t.m.trunk[0].weight.matrix(k.grad).SliceCols(task.lo, task.hi)
		s := &t.batch.States
		kernels.ScatterAdd(table, k.layers[0].rows(0, n).SliceCols(task.lo, task.hi), s.FeatOffset[k.lo:k.hi+1], s.FeatIndex)
	case layerBias:
		l := t.m.trunk[task.layer]
		kernels.SumRows(l.bias.of(k.grad)[task.lo:task.hi], k.layers[task.layer].rows(0, n).SliceCols(task.lo, task.hi))
	case headWeights:
		l := t.m.head[task.layer]
		dw := l.weight.matrix(k.grad).SliceCols(task.lo, task.hi)
		top := k.outputs(len(t.hidden)-1, 0, n)
		kernels.MulTN(dw, k.heads[task.layer].rows(l.out, 0, n), top.SliceCols(task.lo, task.hi))
	case headBias:
		l := t.m.head[task.layer]
		kernels.SumRows(l.bias.of(k.grad), k.heads[task.layer].rows(l.out, 0, n))
	}
}
