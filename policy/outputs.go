package policy

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// outputs are the heads of P_F and P_B on a tape: the logits, probabilities and
// log-normalisers of its states, and their gradients. Rows are states.
type outputs struct {
	head  [2]head
	first [2]int       // by Direction: column of the logits where it begins
	on    [2]bool      // heads that are computed
	lse   [2][]float64 // log-normaliser of each state
	prob  [2][]float64 // of each action of each state
	bad   [2][]int     // first state with a non-finite logit, by part
	// Both heads are one product: their matrices beside each other as [in, out],
	// with columns of zeros that fill up a vector, and their biases.
	weight kernels.Matrix
	bias   []float32
	logits buffer

	// Of the backward pass.
	has  [2]bool      // it has weights
	sums [2][]float64 // sum of the weights of each (state, action)
	grad [2]buffer    // with respect to the logits, of a chunk
}

func (o *outputs) init(heads [2]head) {
	o.head = heads
	for dir, h := range heads {
		if o.first[dir] = o.logits.width; !h.uniform {
			o.logits.width += h.out
		}
		o.grad[dir].width = padded(h.out)
	}
	o.logits.width = padded(o.logits.width)
}

// turn copies the heads' matrices into the form that products want.
func (o *outputs) turn(params []float32) {
	in, pad := o.head[Forward].in, o.logits.width
	if o.bias == nil { // the columns that fill up stay zero
		o.bias = make([]float32, pad)
		o.weight = kernels.Dense(in, pad, make([]float32, in*pad))
	}
	for dir, h := range o.head {
		if first := o.first[dir]; !h.uniform {
			copy(o.bias[first:], h.bias.of(params))
			kernels.Transpose(o.weight.SliceCols(first, first+h.out), h.weight.matrix(params))
		}
	}
}

// grow makes room for so many states.
func (o *outputs) grow(rows int) {
	o.logits.grow(rows)
	for dir := range o.head {
		if o.on[dir] {
			o.lse[dir] = extended(o.lse[dir], rows)
			o.prob[dir] = extended(o.prob[dir], rows*o.head[dir].out)
		}
	}
}

// score takes a part: rows from.. of what the heads read are x, their masks those
// of states at.. of s.
func (o *outputs) score(part int, x kernels.Matrix, from int, s *States, at int) {
	to, width := from+x.Rows, o.logits.width
	if !o.on[Backward] { // the other one's columns are not needed
		width = padded(o.head[Forward].out)
	}
	kernels.Layer(o.logits.rows(from, to).SliceCols(0, width), x, o.weight.SliceCols(0, width), o.bias, kernels.Linear)
	for dir, h := range o.head {
		if !o.on[dir] {
			continue
		}
		mask := s.mask(Direction(dir))[at*h.out : (at+x.Rows)*h.out]
		o.bad[dir][part] = kernels.Softmax(o.prob[dir][from*h.out:to*h.out], o.lse[dir][from:to], o.rows(Direction(dir), from, to), mask)
	}
}

// rows are the logits of some states.
func (o *outputs) rows(dir Direction, from, to int) kernels.Matrix {
	return o.logits.rows(from, to).SliceCols(o.first[dir], o.first[dir]+o.head[dir].out)
}

// mask is that of the direction.
func (s *States) mask(dir Direction) []bool {
	if dir == Backward {
		return s.BackwardMask
	}
	return s.ForwardMask
}

// check compares the shapes of the states from done on with the model's, which
// has so many features, and returns their masks of the direction.
func (o *outputs) check(s *States, done int, dir Direction, features int) ([]bool, error) {
	if dir != Forward && dir != Backward {
		return nil, fmt.Errorf("%w: direction %d", ErrShape, dir)
	}
	mask, width := s.mask(dir), o.head[dir].out
	if s.N < done || len(mask) != s.N*width {
		return nil, fmt.Errorf("%w: a mask of %d for %d states with %d actions", ErrShape, len(mask), s.N, width)
	}
	if len(s.FeatOffset) != s.N+1 {
		return nil, fmt.Errorf("%w: %d feature offsets for %d states", ErrShape, len(s.FeatOffset), s.N)
	}
	last := s.FeatOffset[done]
	if done == 0 && last != 0 {
		return nil, fmt.Errorf("%w: feature offset 0 is %d", ErrShape, last)
	}
	begin := last
	for i, end := range s.FeatOffset[done:] {
		if end < last || int(end) > len(s.FeatIndex) {
			return nil, fmt.Errorf("%w: feature offset %d is %d", ErrShape, done+i, end)
		}
		last = end
	}
	for i, f := range s.FeatIndex[begin:last] {
		if uint(f) >= uint(features) {
			return nil, fmt.Errorf("%w: feature %d at %d, the model has %d", ErrShape, f, int(begin)+i, features)
		}
	}
	return mask[done*width:], nil
}

// pick writes the log-probability of every transition of a direction between n
// states, which are rows 0.. .
func (o *outputs) pick(dst []float64, dir Direction, state, action []int32, s *States) ([]float64, error) {
	if len(state) != len(action) {
		return dst, fmt.Errorf("%w: %d states and %d actions of %s transitions", ErrShape, len(state), len(action), dir)
	}
	resize(&dst, len(state))
	h, mask := o.head[dir], s.mask(dir)
	for i, at := range state {
		a := action[i]
		if uint(at) >= uint(s.N) {
			return dst, fmt.Errorf("%w: %s transition %d is from state %d of %d", ErrShape, dir, i, at, s.N)
		}
		if uint(a) >= uint(h.out) || !mask[int(at)*h.out+int(a)] {
			return dst, fmt.Errorf("%w: %s transition %d takes action %d in state %d", ErrForbidden, dir, i, a, at)
		}
		if h.uniform {
			dst[i] = uniformLogProb(mask[int(at)*h.out:][:h.out])
		} else {
			dst[i] = float64(o.logits.data[int(at)*o.logits.width+o.first[dir]+int(a)]) - o.lse[dir][at]
		}
	}
	return dst, nil
}

// weigh adds up the weights of each (state, action) of a batch's transitions, in
// their order. Nothing is to be done where none is left on.
func (o *outputs) weigh(w *Weights, b *Batch) (some bool, err error) {
	if w.PF != nil && len(w.PF) != len(b.FState) || w.PB != nil && len(w.PB) != len(b.BState) {
		return false, fmt.Errorf("%w: %d and %d weights for %d forward and %d backward transitions",
			ErrShape, len(w.PF), len(w.PB), len(b.FState), len(b.BState))
	}
	o.sum(Forward, w.PF, b.FState, b.FAction, b.States.N)
	o.sum(Backward, w.PB, b.BState, b.BAction, b.States.N)
	return o.has[Forward] || o.has[Backward], nil
}

func (o *outputs) sum(dir Direction, w []float64, state, action []int32, n int) {
	out := o.head[dir].out
	if o.has[dir] = len(w) > 0 && !o.head[dir].uniform; !o.has[dir] {
		return
	}
	clear(resize(&o.sums[dir], n*out))
	for i, s := range state {
		o.sums[dir][int(s)*out+int(action[i])] += w[i]
	}
}

// gradients are those with respect to the logits of some of a chunk's states.
func (o *outputs) gradients(dir Direction, from, to int) kernels.Matrix {
	m := o.grad[dir].rows(from, to)
	m.Cols = o.head[dir].out
	return m
}

// back writes the gradient with respect to what the heads read to dx: rows from..
// of the chunk, which are states at.. : Σ w·onehot − (Σ w)·π for each logit.
func (o *outputs) back(params []float32, dx kernels.Matrix, from, at int) {
	add := false
	for dir, h := range o.head {
		if !o.has[dir] {
			continue
		}
		g := o.gradients(Direction(dir), from, from+dx.Rows)
		lo, hi := at*h.out, (at+dx.Rows)*h.out
		kernels.LogSoftmaxBackward(g, o.prob[dir][lo:hi], o.sums[dir][lo:hi])
		kernels.LayerBackward(dx, g, h.weight.matrix(params), kernels.Matrix{}, kernels.Linear, add)
		add = true
	}
}
