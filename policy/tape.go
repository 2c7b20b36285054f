package policy

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// mlpTape implements Tape for an MLP: one forward pass and what its backward
// pass needs. Buffers grow to the largest batch seen and are kept.
type mlpTape struct {
	m     *MLP
	size  int // number of parameters
	cores Cores

	// The pass under way, or the one that was scored last.
	params []float32
	states *States
	keep   bool
	from   int    // the first state whose rows are in the buffers: 0 if they are kept
	done   int    // states scored so far
	batch  *Batch // that of the last Score; nil: there is none to differentiate

	hidden []buffer    // outputs of the trunk's layers, a row for each state
	heads  [2]headTape // by Direction

	// The work that cores share, and what they found: the first state with a
	// non-finite logit, by part.
	dir   Direction
	lo, n int // rows of the buffers that are computed
	block int // rows of a part
	bad   []int
	trunk func(part int) // a block of rows through all layers and the P_F head
	head  func(part int) // a block of rows through the head of dir

	back backward
}

// headTape is the part of a tape that a policy head needs.
type headTape struct {
	// weight is the head's matrix as [in, out], with columns of zeros that fill up
	// a vector; bias goes with it.
	weight kernels.Matrix
	bias   []float32
	logits buffer
	lse    []float64 // log-normaliser of each state
	prob   []float64 // of each action of each state
}

// vector is how many columns fill up the widest vector.
const vector = 16

func newTape(m *MLP) *mlpTape {
	t := &mlpTape{m: m, size: m.layout.Size()}
	for _, l := range m.trunk {
		t.hidden = append(t.hidden, buffer{width: l.out})
	}
	for dir, h := range m.head {
		t.heads[dir].logits.width = (h.out + vector - 1) / vector * vector
	}
	t.trunk, t.head = t.runTrunk, t.runHead
	t.back.init(t)
	return t
}

// Share implements Tape.
func (t *mlpTape) Share(c Cores) { t.cores = c }

// do runs a function for parts 0..parts-1, on several cores if they are lent.
func (t *mlpTape) do(parts int, f *func(int)) {
	if t.cores != nil && parts > 1 {
		t.cores.Do(parts, f)
		return
	}
	for p := range parts {
		(*f)(p)
	}
}

const (
	// wideBlock is how many rows go through the layers together: their activations
	// stay in the second-level cache.
	wideBlock = 112
	// thinBlock is the fewest rows that are worth another core.
	thinBlock = 8
)

// blockOf is how many of n rows a part takes: every core gets as many parts.
func (t *mlpTape) blockOf(n int) int {
	cores := t.num()
	rounds := (n + cores*wideBlock - 1) / (cores * wideBlock)
	parts := max(cores*rounds, 1)
	return max((n+parts-1)/parts, thinBlock)
}

// num is how many cores there are.
func (t *mlpTape) num() int {
	if t.cores == nil {
		return 1
	}
	return max(t.cores.Num(), 1)
}

// LogProbs implements Tape.
func (t *mlpTape) LogProbs(params []float32, s *States, dir Direction, out []float32) error {
	if err := t.Begin(params, s, false); err != nil {
		return err
	}
	mask, err := t.check(dir)
	if err != nil {
		return err
	}
	if len(out) != len(mask) {
		return fmt.Errorf("%w: %d log-probabilities for %d states", ErrShape, len(out), s.N)
	}
	if h := t.m.head[dir]; h.uniform {
		uniformLogProbs(out, mask, h.out)
		return nil
	}
	if err := t.advance(dir); err != nil {
		return err
	}
	h := &t.heads[dir]
	kernels.LogSoftmax(out, h.rows(t.m.head[dir].out, 0, t.n), mask, h.lse[:t.n])
	return nil
}

// Begin implements Tape.
func (t *mlpTape) Begin(params []float32, s *States, keep bool) error {
	t.batch, t.states = nil, nil
	if len(params) < t.size {
		return fmt.Errorf("%w: %d parameters, the model has %d", ErrShape, len(params), t.size)
	}
	t.params, t.states, t.keep, t.from, t.done = params, s, keep, 0, 0
	for dir := range t.heads {
		t.turnHead(Direction(dir))
	}
	return nil
}

// turnHead copies a head's matrix into the form that products want.
func (t *mlpTape) turnHead(dir Direction) {
	l, h := t.m.head[dir], &t.heads[dir]
	if l.uniform {
		return
	}
	pad := h.logits.width
	if h.bias == nil { // the columns that fill up stay zero
		h.bias = make([]float32, pad)
		h.weight = kernels.Dense(l.in, pad, make([]float32, l.in*pad))
	}
	copy(h.bias, l.bias.of(t.params))
	kernels.Transpose(h.weight, l.weight.matrix(t.params))
}

// Extend implements Tape.
func (t *mlpTape) Extend() ([]float64, error) {
	if t.states == nil {
		return nil, ErrNoPass
	}
	if _, err := t.check(Forward); err != nil {
		return nil, err
	}
	if err := t.advance(Forward); err != nil {
		return nil, err
	}
	width := t.m.head[Forward].out
	return t.heads[Forward].prob[t.lo*width : (t.lo+t.n)*width], nil
}

// rows are the logits of some states.
func (h *headTape) rows(actions, from, to int) kernels.Matrix {
	m := h.logits.rows(from, to)
	m.Cols = actions
	return m
}

// Score implements Tape. It keeps params and b, which must be unchanged when
// Backprop is called.
func (t *mlpTape) Score(params []float32, b *Batch, out *Scores) error {
	if err := t.Begin(params, &b.States, true); err != nil {
		return err
	}
	return t.Finish(b, out)
}

// Finish implements Tape.
func (t *mlpTape) Finish(b *Batch, out *Scores) (err error) {
	pass := t.states
	if t.states = nil; pass == nil || pass != &b.States || !t.keep {
		return ErrNoPass
	}
	t.states = pass
	defer func() {
		if t.states = nil; err == nil {
			t.batch = b
		}
	}()
	if _, err := t.check(Forward); err != nil {
		return err
	}
	if t.done < pass.N {
		if err := t.advance(Forward); err != nil {
			return err
		}
	}
	if out.LogPF, err = t.pick(out.LogPF, Forward, b.FState, b.FAction, pass.ForwardMask); err != nil {
		return err
	}
	t.done = 0 // the other head, for all states
	if _, err := t.check(Backward); err != nil {
		return err
	}
	if len(b.BState) > 0 && !t.m.head[Backward].uniform {
		if err := t.finishHead(Backward); err != nil {
			return err
		}
	}
	out.LogPB, err = t.pick(out.LogPB, Backward, b.BState, b.BAction, pass.BackwardMask)
	return err
}

// check compares the shapes of the states that are not scored yet with the
// model's and returns their masks of the direction.
func (t *mlpTape) check(dir Direction) ([]bool, error) {
	s := t.states
	if dir != Forward && dir != Backward {
		return nil, fmt.Errorf("%w: direction %d", ErrShape, dir)
	}
	mask := s.ForwardMask
	if dir == Backward {
		mask = s.BackwardMask
	}
	width := t.m.head[dir].out
	if s.N < t.done || len(mask) != s.N*width {
		return nil, fmt.Errorf("%w: a mask of %d for %d states with %d actions", ErrShape, len(mask), s.N, width)
	}
	if len(s.FeatOffset) != s.N+1 {
		return nil, fmt.Errorf("%w: %d feature offsets for %d states", ErrShape, len(s.FeatOffset), s.N)
	}
	last := s.FeatOffset[t.done]
	if t.done == 0 && last != 0 {
		return nil, fmt.Errorf("%w: feature offset 0 is %d", ErrShape, last)
	}
	begin := last
	for i, end := range s.FeatOffset[t.done:] {
		if end < last || int(end) > len(s.FeatIndex) {
			return nil, fmt.Errorf("%w: feature offset %d is %d", ErrShape, t.done+i, end)
		}
		last = end
	}
	for i, f := range s.FeatIndex[begin:last] {
		if uint(f) >= uint(t.m.features) {
			return nil, fmt.Errorf("%w: feature %d at %d, the model has %d", ErrShape, f, int(begin)+i, t.m.features)
		}
	}
	return mask[t.done*width:], nil
}

// advance scores the states that are new: trunk, and head of dir.
func (t *mlpTape) advance(dir Direction) error {
	if !t.keep {
		t.from = t.done
	}
	t.lo, t.n, t.dir = t.done-t.from, t.states.N-t.done, dir
	for i := range t.hidden {
		t.hidden[i].grow(t.lo + t.n)
	}
	err := t.share(&t.trunk)
	t.done = t.states.N
	return err
}

// finishHead computes another head of states whose pass was kept.
func (t *mlpTape) finishHead(dir Direction) error {
	t.lo, t.n, t.dir = 0, t.states.N, dir
	return t.share(&t.head)
}

// share cuts the rows lo..lo+n-1 into blocks for the cores.
func (t *mlpTape) share(f *func(int)) error {
	h := &t.heads[t.dir]
	h.logits.grow(t.lo + t.n)
	h.lse = extended(h.lse, t.lo+t.n)
	h.prob = extended(h.prob, (t.lo+t.n)*t.m.head[t.dir].out)
	t.block = t.blockOf(t.n)
	parts := (t.n + t.block - 1) / t.block
	resize(&t.bad, parts)
	t.do(parts, f)
	for p, bad := range t.bad {
		if bad >= 0 {
			return fmt.Errorf("%w of the %s policy in state %d", ErrNonFinite, t.dir, t.from+t.lo+p*t.block+bad)
		}
	}
	return nil
}

// runTrunk takes a block of states through the layers and a head.
func (t *mlpTape) runTrunk(part int) {
	from, to := t.rowsOf(part)
	for i, l := range t.m.trunk {
		h := t.hidden[i].rows(from, to)
		w, bias := l.weight.matrix(t.params), l.bias.of(t.params)
		if i == 0 {
			offset := t.states.FeatOffset[t.from+from : t.from+to+1]
			kernels.GatherLayer(h, w, bias, offset, t.states.FeatIndex, t.m.act)
		} else {
			kernels.Layer(h, t.hidden[i-1].rows(from, to), w, bias, t.m.act)
		}
	}
	t.runHead(part)
}

// rowsOf are the rows of a part.
func (t *mlpTape) rowsOf(part int) (from, to int) {
	from = t.lo + part*t.block
	return from, min(from+t.block, t.lo+t.n)
}

// runHead fills the logits and log-normalisers of a learned head.
func (t *mlpTape) runHead(part int) {
	from, to := t.rowsOf(part)
	l, h := t.m.head[t.dir], &t.heads[t.dir]
	kernels.Layer(h.logits.rows(from, to), t.hidden[len(t.hidden)-1].rows(from, to), h.weight, h.bias, kernels.Linear)
	mask := t.states.ForwardMask
	if t.dir == Backward {
		mask = t.states.BackwardMask
	}
	mask = mask[(t.from+from)*l.out : (t.from+to)*l.out]
	t.bad[part] = kernels.Softmax(h.prob[from*l.out:to*l.out], h.lse[from:to], h.rows(l.out, from, to), mask)
}

// pick writes the log-probability of every transition of a direction.
func (t *mlpTape) pick(dst []float64, dir Direction, state, action []int32, mask []bool) ([]float64, error) {
	if len(state) != len(action) {
		return dst, fmt.Errorf("%w: %d states and %d actions of %s transitions", ErrShape, len(state), len(action), dir)
	}
	resize(&dst, len(state))
	h, tape, n := t.m.head[dir], &t.heads[dir], t.states.N
	for i, s := range state {
		a := action[i]
		if uint(s) >= uint(n) {
			return dst, fmt.Errorf("%w: %s transition %d is from state %d of %d", ErrShape, dir, i, s, n)
		}
		if uint(a) >= uint(h.out) || !mask[int(s)*h.out+int(a)] {
			return dst, fmt.Errorf("%w: %s transition %d takes action %d in state %d", ErrForbidden, dir, i, a, s)
		}
		if h.uniform {
			dst[i] = uniformLogProb(mask[int(s)*h.out:][:h.out])
		} else {
			dst[i] = float64(tape.logits.data[int(s)*tape.logits.width+int(a)]) - tape.lse[s]
		}
	}
	return dst, nil
}

// String names the direction.
func (d Direction) String() string {
	if d == Backward {
		return "backward"
	}
	return "forward"
}

// uniformLogProb is −log of the number of legal actions.
func uniformLogProb(legal []bool) float64 {
	n := 0
	for _, ok := range legal {
		if ok {
			n++
		}
	}
	return -math.Log(float64(n))
}

func uniformLogProbs(out []float32, mask []bool, width int) {
	illegal := float32(math.Inf(-1))
	for i := 0; i < len(mask); i += width {
		legal := mask[i : i+width]
		logp := float32(uniformLogProb(legal))
		for j, ok := range legal {
			if ok {
				out[i+j] = logp
			} else {
				out[i+j] = illegal
			}
		}
	}
}
