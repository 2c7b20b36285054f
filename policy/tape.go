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

	// Outputs of the trunk's layers, a row for each state; of the first of several
	// layers for the states that were scored last: to add up a few rows again is
	// cheaper than to keep the sums.
	hidden []buffer
	heads  [3]headTape // as the model's
	// The heads are one product: their matrices beside each other as [in, out],
	// with columns of zeros that fill up a vector, and their biases.
	weight kernels.Matrix
	bias   []float32
	logits buffer

	// The work that cores share, and what they found.
	on    [3]bool        // heads that are computed
	lo, n int            // rows of the buffers that are computed
	block int            // rows of a part
	bad   [3][]int       // first state with a non-finite logit, by head and part
	trunk func(part int) // a block of rows through all layers and the heads

	back backward
}

// headTape is the part of a tape that a head needs. The flow has no
// probabilities.
type headTape struct {
	first int       // column of the logits where it begins
	lse   []float64 // log-normaliser of each state
	prob  []float64 // of each action of each state
}

// vector is how many columns fill up the widest vector.
const vector = 16

// padded is n or as many more as fill up a vector.
func padded(n int) int { return (n + vector - 1) / vector * vector }

func newTape(m *MLP) *mlpTape {
	t := &mlpTape{m: m, size: m.layout.Size()}
	for _, l := range m.trunk {
		t.hidden = append(t.hidden, buffer{width: l.out})
	}
	for dir, h := range m.head {
		if t.heads[dir].first = t.logits.width; !h.uniform {
			t.logits.width += h.out
		}
	}
	t.logits.width = padded(t.logits.width)
	t.trunk = t.runTrunk
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
	t.on = [3]bool{Forward: dir == Forward, Backward: dir == Backward}
	if err := t.advance(); err != nil {
		return err
	}
	h := &t.heads[dir]
	kernels.LogSoftmax(out, t.rows(dir, 0, t.n), mask, h.lse[:t.n])
	return nil
}

// Begin implements Tape.
func (t *mlpTape) Begin(params []float32, s *States, keep bool) error {
	t.batch, t.states = nil, nil
	if len(params) < t.size {
		return fmt.Errorf("%w: %d parameters, the model has %d", ErrShape, len(params), t.size)
	}
	t.params, t.states, t.keep, t.from, t.done = params, s, keep, 0, 0
	t.on = [3]bool{Forward: true, Backward: keep && !t.m.head[Backward].uniform, flow: keep && !t.m.head[flow].uniform}
	t.turnHeads()
	return nil
}

// turnHeads copies the heads' matrices into the form that products want.
func (t *mlpTape) turnHeads() {
	in, pad := t.m.head[Forward].in, t.logits.width
	if t.bias == nil { // the columns that fill up stay zero
		t.bias = make([]float32, pad)
		t.weight = kernels.Dense(in, pad, make([]float32, in*pad))
	}
	for dir, l := range t.m.head {
		if first := t.heads[dir].first; !l.uniform {
			copy(t.bias[first:], l.bias.of(t.params))
			kernels.Transpose(t.weight.SliceCols(first, first+l.out), l.weight.matrix(t.params))
		}
	}
}

// Extend implements Tape.
func (t *mlpTape) Extend() ([]float64, error) {
	if t.states == nil {
		return nil, ErrNoPass
	}
	if err := t.extend(); err != nil {
		return nil, err
	}
	width := t.m.head[Forward].out
	return t.heads[Forward].prob[t.lo*width : (t.lo+t.n)*width], nil
}

// rows are the logits of some states.
func (t *mlpTape) rows(dir Direction, from, to int) kernels.Matrix {
	first := t.heads[dir].first
	return t.logits.rows(from, to).SliceCols(first, first+t.m.head[dir].out)
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
	if err := t.extend(); err != nil {
		return err
	}
	if out.LogPF, err = t.pick(out.LogPF, Forward, b.FState, b.FAction, pass.ForwardMask); err != nil {
		return err
	}
	if out.LogPB, err = t.pick(out.LogPB, Backward, b.BState, b.BAction, pass.BackwardMask); err != nil {
		return err
	}
	out.LogF = t.flows(out.LogF)
	return nil
}

// flows writes log F of every state; nothing without a flow head.
func (t *mlpTape) flows(dst []float64) []float64 {
	if !t.on[flow] {
		return dst[:0]
	}
	resize(&dst, t.done)
	width, first := t.logits.width, t.heads[flow].first
	for i := range dst {
		dst[i] = float64(t.logits.data[i*width+first])
	}
	return dst
}

// extend scores the states that are new.
func (t *mlpTape) extend() error {
	if _, err := t.check(Forward); err != nil {
		return err
	}
	if t.keep {
		if _, err := t.check(Backward); err != nil {
			return err
		}
	}
	if t.done == t.states.N {
		t.n = 0
		return nil
	}
	return t.advance()
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

// advance takes the new states through the trunk and the heads.
func (t *mlpTape) advance() error {
	if !t.keep {
		t.from = t.done
	}
	t.lo, t.n = t.done-t.from, t.states.N-t.done
	rows := t.lo + t.n
	for i := range t.hidden {
		if t.again(i) {
			t.hidden[i].grow(t.n)
		} else {
			t.hidden[i].grow(rows)
		}
	}
	t.block = t.blockOf(t.n)
	parts := (t.n + t.block - 1) / t.block
	t.logits.grow(rows)
	for dir := range t.heads {
		h := &t.heads[dir]
		if !t.on[dir] {
			continue
		}
		resize(&t.bad[dir], parts)
		if Direction(dir) != flow {
			h.lse = extended(h.lse, rows)
			h.prob = extended(h.prob, rows*t.m.head[dir].out)
		}
	}
	t.do(parts, &t.trunk)
	t.done = t.states.N
	for dir := range t.heads {
		if !t.on[dir] {
			continue
		}
		for p, bad := range t.bad[dir] {
			if bad >= 0 {
				return fmt.Errorf("%w of %s in state %d", ErrNonFinite, output(dir), t.from+t.lo+p*t.block+bad)
			}
		}
	}
	return nil
}

// again says whether the outputs of a layer are not kept but computed again.
func (t *mlpTape) again(layer int) bool { return layer == 0 && len(t.m.trunk) > 1 }

// gather computes the outputs of the first layer for rows from..to-1 of the buffers.
func (t *mlpTape) gather(h kernels.Matrix, from, to int) {
	l := t.m.trunk[0]
	kernels.GatherLayer(h, l.weight.matrix(t.params), l.bias.of(t.params), t.states.FeatOffset[t.from+from:t.from+to+1], t.states.FeatIndex, t.m.act)
}

// runTrunk takes a block of states through the layers and the heads.
func (t *mlpTape) runTrunk(part int) {
	from, to := t.rowsOf(part)
	at := 0
	if t.again(0) {
		at = t.lo
	}
	h := t.hidden[0].rows(from-at, to-at)
	t.gather(h, from, to)
	for i := 1; i < len(t.m.trunk); i++ {
		l, above := t.m.trunk[i], t.hidden[i].rows(from, to)
		kernels.Layer(above, h, l.weight.matrix(t.params), l.bias.of(t.params), t.m.act)
		h = above
	}
	width := t.logits.width
	if !t.on[Backward] && !t.on[flow] { // the others' columns are not needed
		width = padded(t.m.head[Forward].out)
	}
	kernels.Layer(t.logits.rows(from, to).SliceCols(0, width), h, t.weight.SliceCols(0, width), t.bias, kernels.Linear)
	for dir := range t.heads {
		switch {
		case !t.on[dir]:
		case Direction(dir) == flow:
			t.bad[dir][part] = firstNonFinite(t.rows(flow, from, to))
		default:
			t.bad[dir][part] = t.softmax(Direction(dir), from, to)
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

// output names what a head gives.
func output(head int) string {
	if Direction(head) == flow {
		return "the flow"
	}
	return fmt.Sprintf("the %s policy", Direction(head))
}

// rowsOf are the rows of a part.
func (t *mlpTape) rowsOf(part int) (from, to int) {
	from = t.lo + part*t.block
	return from, min(from+t.block, t.lo+t.n)
}

// softmax fills the probabilities and log-normalisers of a learned head for rows
// from..to-1 and returns the first of them that has a non-finite logit, or -1.
func (t *mlpTape) softmax(dir Direction, from, to int) (bad int) {
	actions, h := t.m.head[dir].out, &t.heads[dir]
	mask := t.states.ForwardMask
	if dir == Backward {
		mask = t.states.BackwardMask
	}
	mask = mask[(t.from+from)*actions : (t.from+to)*actions]
	return kernels.Softmax(h.prob[from*actions:to*actions], h.lse[from:to], t.rows(dir, from, to), mask)
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
			dst[i] = float64(t.logits.data[int(s)*t.logits.width+tape.first+int(a)]) - tape.lse[s]
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
