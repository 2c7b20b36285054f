package policy

import "github.com/driftmesh/driftmesh/internal/kernels"

// backward is the backward pass of an mlpTape. States go through it in chunks, so
// that what it needs of them stays in the caches: first the gradients with
// respect to all layers' inputs, a block of states for each part; then those with
// respect to the parameters, some rows or columns of a matrix for each part. So
// every sum runs over the states in order, whatever the number of parts.
type backward struct {
	t *mlpTape

	grad   []float32
	first  buffer           // outputs of the first layer for the chunk, unless they were kept
	layers []buffer         // gradients of the chunk with respect to the inputs of the activations
	turned []kernels.Matrix // transposed weights of the layers but the first
	lo, hi int              // the states of the chunk
	tasks  []task

	transposes, inputs, weights func(part int)
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
	k.transposes, k.inputs, k.weights = k.runTransposes, k.runInputs, k.runWeights
}

// Backprop implements Tape. dlogits = Σ w·onehot − (Σ w)·π per state, the sums
// in the order of the transitions.
func (t *mlpTape) Backprop(w *Weights, grad []float32) error {
	b, err := t.scored(t.size, w, grad)
	if err != nil {
		return err
	}
	k := &t.back
	some, err := t.out.weigh(w, b)
	if err != nil || !some {
		return err
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
	for dir, has := range k.t.out.has {
		if has {
			k.t.out.grad[dir].grow(rows)
			cut(headWeights, dir, k.t.m.head[dir].in, cores)
			k.tasks = append(k.tasks, task{kind: headBias, layer: dir})
		}
	}
}

// runTransposes turns a share of the layers' matrices.
func (k *backward) runTransposes(part int) {
	turn(k.turned, k.t.m.trunk, k.t.params, part, k.t.num())
}

// turn transposes part of so many of the rows of every layer's matrix but the
// first's.
func turn(turned []kernels.Matrix, layers []dense, params []float32, part, parts int) {
	for i := 1; i < len(turned); i++ {
		w := layers[i].weight.matrix(params)
		share := (w.Rows + parts - 1) / parts
		step := (share + vector - 1) / vector * vector // whole tiles
		if from, to := part*step, min((part+1)*step, w.Rows); from < to {
			kernels.Transpose(turned[i].SliceCols(from, to), w.SliceRows(from, to))
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
	t.out.back(t.params, d, from, k.lo+from, k.outputs(top, from, to), t.m.act)
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
		kernels.MulTN(dw, t.out.gradients(Direction(task.layer), 0, n), top.SliceCols(task.lo, task.hi))
	case headBias:
		l := t.m.head[task.layer]
		kernels.SumRows(l.bias.of(k.grad), t.out.gradients(Direction(task.layer), 0, n))
	}
}
