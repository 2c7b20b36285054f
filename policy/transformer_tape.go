package policy

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
	budget int // keptBytes, but for tests
	crew
	pass
	fresh int // states scored by the last Extend

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

// LogProbs implements Tape.
func (t *transformerTape) LogProbs(params []float32, s *States, dir Direction, out []float32) error {
	if err := t.Begin(params, s, false); err != nil {
		return err
	}
	return t.out.logProbs(s, dir, t.m.features(), out, t.advance)
}

// Begin implements Tape.
func (t *transformerTape) Begin(params []float32, s *States, keep bool) error {
	if err := t.begin(t.size, params, s, keep); err != nil {
		return err
	}
	t.held = 0
	t.seq.reset()
	t.out.begin(params, keep)
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
func (t *transformerTape) Finish(b *Batch, out *Scores) error {
	return t.end(b, func() error {
		if err := t.extend(); err != nil {
			return err
		}
		return t.out.finish(b, out)
	})
}

// extend scores the states that are new.
func (t *transformerTape) extend() error {
	if err := t.out.checkNew(&t.pass, t.m.features()); err != nil {
		return err
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
	t.out.parts(parts)
	t.do(parts, &t.encode)
	return t.out.fault(func(p int) int { return t.from + t.cuts[p] })
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
