package policy

import "github.com/driftmesh/driftmesh/internal/kernels"

// descent is the way back through dense layers that lie on each other. States go
// through it in chunks, so that what it needs of them stays in the caches: first
// the gradients with respect to all layers' inputs, a block of states for each part;
// then those with respect to the parameters, some rows or columns of a matrix for
// each part. So every sum runs over the states in order, whatever the number of parts.
type descent struct {
	*crew
	layers []dense
	act    kernels.Activation // below every layer but the first
	// input gives what a layer read of rows from..to-1 of the chunk; it is not asked
	// for the first layer, unless that has a task layerWeights.
	input func(layer, from, to int) kernels.Matrix

	grad      []float32        // with respect to the parameters
	gradients []buffer         // of the chunk, with respect to what the layers' activations take
	turned    []kernels.Matrix // transposed weights of the layers but the first
	lo, hi    int              // the states of the chunk
	block     int              // of its states for a part
	tasks     []task
}

// task is a part of the gradient with respect to the parameters: rows lo..hi-1 of
// the matrix of a layer, or such columns where it is a head's, the table's of an
// MLP's first layer or a bias.
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

func (k *descent) init(c *crew, layers []dense, act kernels.Activation, input func(layer, from, to int) kernels.Matrix) {
	k.crew, k.layers, k.act, k.input = c, layers, act, input
	for i, l := range layers {
		k.gradients = append(k.gradients, buffer{width: l.out})
		turned := kernels.Matrix{}
		if i > 0 {
			turned = kernels.Matrix{Rows: l.out, Cols: l.in, Stride: l.in}
		}
		k.turned = append(k.turned, turned)
	}
}

// begin starts a way back: transposes turns a share of the layers' matrices.
func (k *descent) begin(grad []float32, transposes *func(part int)) {
	for i := range k.turned {
		resize(&k.turned[i].Data, k.turned[i].Rows*k.turned[i].Cols)
	}
	k.do(k.num(), transposes)
	k.grad, k.tasks = grad, k.tasks[:0]
}

// turn transposes a share of the rows of every layer's matrix but the first's.
func (k *descent) turn(params []float32, part int) {
	for i := 1; i < len(k.turned); i++ {
		w := k.layers[i].weight.matrix(params)
		share := (w.Rows + k.num() - 1) / k.num()
		step := (share + vector - 1) / vector * vector // whole tiles
		if from, to := part*step, min((part+1)*step, w.Rows); from < to {
			kernels.Transpose(k.turned[i].SliceCols(from, to), w.SliceRows(from, to))
		}
	}
}

// pieces is into how many tasks the largest matrices are cut, for n states: who has
// begun late has less to do.
func (k *descent) pieces(n int) int {
	if n > thinBlock && k.num() > 1 {
		return 2 * k.num()
	}
	return 1
}

// cut makes tasks of whole vectors, for products like them.
func (k *descent) cut(kind taskKind, layer, size, parts int) {
	step := max((size/parts+vector-1)/vector*vector, vector)
	for lo := 0; lo < size; lo += step {
		k.tasks = append(k.tasks, task{kind, layer, lo, min(lo+step, size)})
	}
}

// run takes n states back, chunk by chunk: inputs for a block, weights for a task.
func (k *descent) run(n int, inputs, weights *func(part int)) {
	for k.lo = 0; k.lo < n; k.lo = k.hi {
		k.hi = min(k.lo+chunk, n)
		k.block = k.blockOf(k.hi - k.lo)
		k.do((k.hi-k.lo+k.block-1)/k.block, inputs)
		k.do(len(k.tasks), weights)
	}
}

// rowsOf are the rows of a part, within the chunk.
func (k *descent) rowsOf(part int) (from, to int) {
	from = part * k.block
	return from, min(from+k.block, k.hi-k.lo)
}

// down takes rows from..to-1 of the chunk from the gradients of a layer to those of
// all below.
func (k *descent) down(layer, from, to int) {
	for i := layer; i > 0; i-- {
		kernels.LayerBackward(k.gradients[i-1].rows(from, to), k.gradients[i].rows(from, to), k.turned[i], k.input(i, from, to), k.act, false)
	}
}

// work does a task layerWeights or layerBias for the chunk's states.
func (k *descent) work(t task) {
	l, g := k.layers[t.layer], k.gradients[t.layer].rows(0, k.hi-k.lo)
	if t.kind == layerBias {
		kernels.SumRows(l.bias.of(k.grad), g)
		return
	}
	dw := l.weight.matrix(k.grad).SliceRows(t.lo, t.hi)
	kernels.MulTN(dw, k.input(t.layer, 0, k.hi-k.lo).SliceCols(t.lo, t.hi), g)
}
