package policy

import (
	"math"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// mlpTape implements Tape for an MLP: one forward pass and what its backward
// pass needs. Buffers grow to the largest batch seen and are kept.
type mlpTape struct {
	m    *MLP
	size int // number of parameters
	crew
	pass

	// Outputs of the trunk's layers, a row for each state; of the first of several
	// layers for the states that were scored last: to add up a few rows again is
	// cheaper than to keep the sums.
	hidden []buffer
	out    outputs

	// The work that cores share.
	lo, n int            // rows of the buffers that are computed
	block int            // rows of a part
	trunk func(part int) // a block of rows through all layers and the heads

	back backward
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
	t.out.init(m.head)
	t.trunk = t.runTrunk
	t.back.init(t)
	return t
}

// LogProbs implements Tape.
func (t *mlpTape) LogProbs(params []float32, s *States, dir Direction, out []float32) error {
	if err := t.Begin(params, s, false); err != nil {
		return err
	}
	return t.out.logProbs(s, dir, t.m.features, out, t.advance)
}

// Begin implements Tape.
func (t *mlpTape) Begin(params []float32, s *States, keep bool) error {
	if err := t.begin(t.size, params, s, keep); err != nil {
		return err
	}
	t.out.begin(params, keep)
	return nil
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
	return t.out.prob[Forward][t.lo*width : (t.lo+t.n)*width], nil
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
func (t *mlpTape) Finish(b *Batch, out *Scores) error {
	return t.end(b, func() error {
		if err := t.extend(); err != nil {
			return err
		}
		return t.out.finish(b, out)
	})
}

// extend scores the states that are new.
func (t *mlpTape) extend() error {
	if err := t.out.checkNew(&t.pass, t.m.features); err != nil {
		return err
	}
	if t.done == t.states.N {
		t.n = 0
		return nil
	}
	return t.advance()
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
	t.out.grow(rows)
	t.out.parts(parts)
	t.do(parts, &t.trunk)
	t.done = t.states.N
	return t.out.fault(func(p int) int { return t.from + t.lo + p*t.block })
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
	t.out.score(part, h, from, t.states, t.from+from)
}

// rowsOf are the rows of a part.
func (t *mlpTape) rowsOf(part int) (from, to int) {
	from = t.lo + part*t.block
	return from, min(from+t.block, t.lo+t.n)
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
