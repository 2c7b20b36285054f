package policy

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

const (
	// tokenChunk is how many tokens go through the encoder between two points where
	// the cores meet, and through the backward pass together.
	tokenChunk = 1024
	// keptBytes is how much of a pass is kept for its backward pass. What is beyond
	// is computed again, chunk by chunk.
	keptBytes = 128 << 20
)

// transformerTape implements Tape for a Transformer. Its states are sequences of
// tokens, one sequence after the other without gaps: the linear layers see one
// matrix of many states' tokens, attention sees a state at a time. Buffers grow to
// the largest batch seen, up to keptBytes and some chunks, and are kept.
type transformerTape struct {
	m      *Transformer
	size   int // number of parameters
	cores  Cores
	budget int // keptBytes, but for tests

	// The pass under way, or the one that was scored last.
	params []float32
	states *States
	keep   bool
	from   int    // the first state whose rows are in the buffers: 0 if they are kept
	done   int    // states scored so far
	fresh  int    // of them by the last Extend
	batch  *Batch // that of the last Score; nil: there is none to differentiate

	out  outputs
	seq  sequences
	held int // states, from the first, of which kept has the activations

	kept, scratch activations
	stream        streams

	// The chunk that goes through the encoder, and how cores share it.
	acts   *activations
	lo, hi int   // its states
	cuts   []int // part p has states cuts[p]..cuts[p+1]-1
	encode func(part int)

	back transformerBackward
}

func newTransformerTape(m *Transformer) *transformerTape {
	t := &transformerTape{m: m, size: m.layout.Size(), budget: keptBytes}
	t.out.init(m.head)
	t.kept.init(m)
	t.scratch.init(m)
	t.stream.init(m)
	t.encode = t.runEncode
	t.back.init(t)
	return t
}

// Share implements Tape.
func (t *transformerTape) Share(c Cores) { t.cores = c }

// LogProbs implements Tape.
func (t *transformerTape) LogProbs(params []float32, s *States, dir Direction, out []float32) error {
	if err := t.Begin(params, s, false); err != nil {
		return err
	}
	mask, err := t.out.check(s, 0, dir, t.m.features())
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
	t.out.on = [2]bool{dir == Forward, dir == Backward}
	if err := t.advance(); err != nil {
		return err
	}
	kernels.LogSoftmax(out, t.out.rows(dir, 0, s.N), mask, t.out.lse[dir][:s.N])
	return nil
}

// Begin implements Tape.
func (t *transformerTape) Begin(params []float32, s *States, keep bool) error {
	t.batch, t.states = nil, nil
	if len(params) < t.size {
		return fmt.Errorf("%w: %d parameters, the model has %d", ErrShape, len(params), t.size)
	}
	t.params, t.states, t.keep, t.from, t.done, t.held = params, s, keep, 0, 0, 0
	t.seq.reset()
	t.out.on = [2]bool{true, keep && !t.m.head[Backward].uniform}
	t.out.turn(params)
	return nil
}

// Extend implements Tape.
func (t *transformerTape) Extend() ([]float64, error) {
	if t.states == nil {
		return nil, ErrNoPass
	}
	if err := t.extend(); err != nil {
		return nil, err
	}
	end, width := t.done-t.from, t.m.head[Forward].out
	return t.out.prob[Forward][(end-t.fresh)*width : end*width], nil
}

// Score implements Tape. It keeps params and b, which must be unchanged when
// Backprop is called.
func (t *transformerTape) Score(params []float32, b *Batch, out *Scores) error {
	if err := t.Begin(params, &b.States, true); err != nil {
		return err
	}
	return t.Finish(b, out)
}

// Finish implements Tape.
func (t *transformerTape) Finish(b *Batch, out *Scores) (err error) {
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
	if out.LogPF, err = t.out.pick(out.LogPF, Forward, b.FState, b.FAction, pass); err != nil {
		return err
	}
	out.LogPB, err = t.out.pick(out.LogPB, Backward, b.BState, b.BAction, pass)
	return err
}

// extend scores the states that are new.
func (t *transformerTape) extend() error {
	if _, err := t.out.check(t.states, t.done, Forward, t.m.features()); err != nil {
		return err
	}
	if t.keep {
		if _, err := t.out.check(t.states, t.done, Backward, t.m.features()); err != nil {
			return err
		}
	}
	if t.fresh = t.states.N - t.done; t.fresh == 0 {
		return nil
	}
	return t.advance()
}

// advance takes the new states through the encoder and the heads, chunk by chunk.
// Once the budget does not hold a chunk, none after it is kept.
func (t *transformerTape) advance() error {
	if !t.keep {
		t.from = t.done
		t.seq.reset()
	}
	t.seq.extend(t.m, t.states, t.done)
	t.out.grow(t.states.N - t.from)
	for t.lo = t.done; t.lo < t.states.N; t.lo = t.hi {
		t.hi = t.seq.chunk(t.lo-t.from, t.states.N-t.from) + t.from
		t.acts = &t.scratch
		if t.keep && t.held == t.lo && t.kept.bytes(&t.seq, 0, t.hi) <= t.budget {
			t.acts, t.held = &t.kept, t.hi
		}
		if err := t.runChunk(); err != nil {
			return err
		}
	}
	t.done = t.states.N
	return nil
}

// runChunk takes states lo..hi-1 through the encoder and the heads.
func (t *transformerTape) runChunk() error {
	t.open(t.lo-t.from, t.hi-t.from)
	parts := len(t.cuts) - 1
	for dir := range t.out.bad {
		resize(&t.out.bad[dir], parts)
	}
	t.do(parts, &t.encode)
	for dir, bad := range t.out.bad {
		for p := 0; p < parts && t.out.on[dir]; p++ {
			if bad[p] >= 0 {
				return fmt.Errorf("%w of the %s policy in state %d", ErrNonFinite, Direction(dir), t.from+t.cuts[p]+bad[p])
			}
		}
	}
	return nil
}

// open makes room for a chunk, rows from..to-1 of the buffers, and cuts it into parts.
func (t *transformerTape) open(from, to int) {
	base := from
	if t.acts == &t.kept {
		base = 0
	}
	t.acts.open(&t.seq, base, to)
	t.stream.open(&t.seq, from, to)
	t.cuts = t.seq.cut(t.cuts[:0], from, to, t.blockOf(t.seq.tokens(from, to)))
}

// do runs a function for parts 0..parts-1, on several cores if they are lent.
func (t *transformerTape) do(parts int, f *func(int)) {
	if t.cores != nil && parts > 1 {
		t.cores.Do(parts, f)
		return
	}
	for p := range parts {
		(*f)(p)
	}
}

// blockOf is how many of n tokens a part takes at least; see that of the MLP.
func (t *transformerTape) blockOf(n int) int {
	cores := t.num()
	rounds := (n + cores*wideBlock - 1) / (cores * wideBlock)
	parts := max(cores*rounds, 1)
	return max((n+parts-1)/parts, thinBlock)
}

// num is how many cores there are.
func (t *transformerTape) num() int {
	if t.cores == nil {
		return 1
	}
	return max(t.cores.Num(), 1)
}
