package policy

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// outputs are the heads of P_F, P_B and log F on a tape: the logits, probabilities and
// log-normalisers of its states, and their gradients. Rows are states. The flow has
// one logit, and no probabilities.
type outputs struct {
	head  heads
	first [3]int       // column of the logits where it begins
	on    [3]bool      // heads that are computed
	lse   [3][]float64 // log-normaliser of each state
	prob  [3][]float64 // of each action of each state
	bad   [3][]int     // first state with a non-finite logit, by part
	// The heads are one product: their matrices beside each other as [in, out],
	// with columns of zeros that fill up a vector, and their biases.
	weight kernels.Matrix
	bias   []float32
	logits buffer

	// Of the backward pass.
	has  [3]bool      // it has weights
	sums [3][]float64 // sum of the weights of each (state, action); of the flow, those given
	grad [3]buffer    // with respect to the logits, of a chunk
}

func (o *outputs) init(h heads) {
	o.head = h
	for dir, h := range h {
		if o.first[dir] = o.logits.width; !h.uniform {
			o.logits.width += h.out
		}
		o.grad[dir].width = padded(h.out)
	}
	o.logits.width = padded(o.logits.width)
}

// begin chooses what a pass computes, and turns the heads' matrices.
func (o *outputs) begin(params []float32, keep bool) {
	o.on = [3]bool{Forward: true, Backward: keep && !o.head[Backward].uniform, flow: keep && !o.head[flow].uniform}
	o.turn(params)
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
		if o.on[dir] && Direction(dir) != flow {
			o.lse[dir] = extended(o.lse[dir], rows)
			o.prob[dir] = extended(o.prob[dir], rows*o.head[dir].out)
		}
	}
}

// parts makes room for what so many parts find.
func (o *outputs) parts(n int) {
	for dir := range o.bad {
		resize(&o.bad[dir], n)
	}
}

// fault is about the first state with a non-finite logit; first gives the first
// state of a part.
func (o *outputs) fault(first func(part int) int) error {
	for dir, bad := range o.bad {
		for p := 0; p < len(bad) && o.on[dir]; p++ {
			if bad[p] >= 0 {
				return fmt.Errorf("%w of %s in state %d", ErrNonFinite, output(dir), first(p)+bad[p])
			}
		}
	}
	return nil
}

// output names what a head gives.
func output(head int) string {
	if Direction(head) == flow {
		return "the flow"
	}
	return fmt.Sprintf("the %s policy", Direction(head))
}

// score takes a part: rows from.. of what the heads read are x, their masks those
// of states at.. of s.
func (o *outputs) score(part int, x kernels.Matrix, from int, s *States, at int) {
	to, width := from+x.Rows, o.logits.width
	if !o.on[Backward] && !o.on[flow] { // the others' columns are not needed
		width = padded(o.head[Forward].out)
	}
	kernels.Layer(o.logits.rows(from, to).SliceCols(0, width), x, o.weight.SliceCols(0, width), o.bias, kernels.Linear)
	for dir, h := range o.head {
		switch {
		case !o.on[dir]:
		case Direction(dir) == flow:
			o.bad[dir][part] = firstNonFinite(o.rows(flow, from, to))
		default:
			mask := s.mask(Direction(dir))[at*h.out : (at+x.Rows)*h.out]
			o.bad[dir][part] = kernels.Softmax(o.prob[dir][from*h.out:to*h.out], o.lse[dir][from:to], o.rows(Direction(dir), from, to), mask)
		}
	}
}

// firstNonFinite is the first row of a column that is NaN or infinite, or -1.
func firstNonFinite(m kernels.Matrix) int {
	for i := range m.Rows {
		if v := m.Row(i)[0]; v-v != 0 {
			return i
		}
	}
	return -1
}

// finish writes the scores of a batch, whose states are rows 0.. .
func (o *outputs) finish(b *Batch, out *Scores) (err error) {
	if out.LogPF, err = o.pick(out.LogPF, Forward, b.FState, b.FAction, &b.States); err != nil {
		return err
	}
	if out.LogPB, err = o.pick(out.LogPB, Backward, b.BState, b.BAction, &b.States); err != nil {
		return err
	}
	out.LogF = o.flows(out.LogF, b.States.N)
	return nil
}

// flows writes log F of every state; nothing without a flow head.
func (o *outputs) flows(dst []float64, n int) []float64 {
	if !o.on[flow] {
		return dst[:0]
	}
	resize(&dst, n)
	for i := range dst {
		dst[i] = float64(o.logits.data[i*o.logits.width+o.first[flow]])
	}
	return dst
}

// logProbs is LogProbs of a tape: advance computes the logits of all states.
func (o *outputs) logProbs(s *States, dir Direction, features int, out []float32, advance func() error) error {
	mask, err := o.check(s, 0, dir, features)
	if err != nil {
		return err
	}
	if len(out) != len(mask) {
		return fmt.Errorf("%w: %d log-probabilities for %d states", ErrShape, len(out), s.N)
	}
	if h := o.head[dir]; h.uniform {
		uniformLogProbs(out, mask, h.out)
		return nil
	}
	o.on = [3]bool{Forward: dir == Forward, Backward: dir == Backward}
	if err := advance(); err != nil {
		return err
	}
	kernels.LogSoftmax(out, o.rows(dir, 0, s.N), mask, o.lse[dir][:s.N])
	return nil
}

// checkNew is check of all that a pass needs.
func (o *outputs) checkNew(p *pass, features int) error {
	_, err := o.check(p.states, p.done, Forward, features)
	if err == nil && p.keep {
		_, err = o.check(p.states, p.done, Backward, features)
	}
	return err
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
// their order, and says whether there are any.
func (o *outputs) weigh(w *Weights, b *Batch) (some bool) {
	o.sum(Forward, w.PF, b.FState, b.FAction, b.States.N)
	o.sum(Backward, w.PB, b.BState, b.BAction, b.States.N)
	o.has[flow], o.sums[flow] = !o.head[flow].uniform && len(w.F) > 0, w.F
	return o.last() >= 0
}

// last is the last of the heads that have weights, or -1.
func (o *outputs) last() int {
	last := -1
	for dir, has := range o.has {
		if has {
			last = dir
		}
	}
	return last
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
// of the chunk, which are states at.. : Σ w·onehot − (Σ w)·π for each logit. What
// they read is y, the outputs of an activation, of which dx is taken back to the
// input; a Linear one has none.
func (o *outputs) back(params []float32, dx kernels.Matrix, from, at int, y kernels.Matrix, act kernels.Activation) {
	last, add := o.last(), false
	for dir, h := range o.head {
		if !o.has[dir] {
			continue
		}
		g := o.gradients(Direction(dir), from, from+dx.Rows)
		lo, hi := at*h.out, (at+dx.Rows)*h.out
		if Direction(dir) == flow {
			for i, w := range o.sums[flow][lo:hi] {
				g.Row(i)[0] = float32(w)
			}
		} else {
			kernels.LogSoftmaxBackward(g, o.prob[dir][lo:hi], o.sums[dir][lo:hi])
		}
		through := kernels.Linear
		if dir == last {
			through = act
		}
		kernels.LayerBackward(dx, g, h.weight.matrix(params), y, through, add)
		add = true
	}
}
