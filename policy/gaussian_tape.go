package policy

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/kernels"
)

// gaussianTape implements Continuous: one forward pass and what its backward pass
// needs. Buffers grow to the largest batch seen and are kept.
type gaussianTape struct {
	m    *Gaussian
	size int // number of parameters
	crew
	pass

	acts    []buffer  // inputs of the layers, and of the last one the outputs
	moments []float64 // rows of 2·dim: means, standard deviations
	flow    buffer    // f of log F, where the pass is kept and the model has flows
	back    []float64 // moments of P_B of one state

	lo, n, block int
	bad, badFlow []int // first state with a non-finite output, by part
	forward      func(part int)
	grad         gaussianGrad
}

func newGaussianTape(m *Gaussian) *gaussianTape {
	t := &gaussianTape{m: m, size: m.layout.Size(), back: make([]float64, 2*m.dim)}
	for _, l := range m.layers {
		t.acts = append(t.acts, buffer{width: l.in})
	}
	t.acts = append(t.acts, buffer{width: m.outputs()})
	t.flow.width = 1
	t.forward = t.runForward
	t.grad.init(t)
	return t
}

// LogProbs implements Tape: a point has no list of neighbours.
func (t *gaussianTape) LogProbs([]float32, *States, Direction, []float32) error {
	t.batch, t.states = nil, nil
	return ErrContinuous
}

// Moments implements Continuous.
func (t *gaussianTape) Moments(params []float32, s *States, dir Direction, out []float64) error {
	if err := t.Begin(params, s, false); err != nil {
		return err
	}
	if dir != Forward && dir != Backward {
		return fmt.Errorf("%w: direction %d", ErrShape, dir)
	}
	if err := t.check(); err != nil {
		return err
	}
	width := 2 * t.m.dim
	if len(out) != s.N*width {
		return fmt.Errorf("%w: %d moments for %d states", ErrShape, len(out), s.N)
	}
	if dir == Backward {
		for i := range s.N {
			step, x := t.row(i)
			t.m.bridge(step, x, out[i*width:(i+1)*width])
		}
		return nil
	}
	if err := t.advance(); err != nil {
		return err
	}
	copy(out, t.moments[:s.N*width])
	for i := range s.N {
		if step, _ := t.row(i); step == t.m.steps {
			for j := range width {
				out[i*width+j] = math.NaN()
			}
		}
	}
	return nil
}

// Begin implements Tape.
func (t *gaussianTape) Begin(params []float32, s *States, keep bool) error {
	return t.begin(t.size, params, s, keep)
}

// Extend implements Tape: it returns moments.
func (t *gaussianTape) Extend() ([]float64, error) {
	if t.states == nil {
		return nil, ErrNoPass
	}
	if err := t.extend(); err != nil {
		return nil, err
	}
	width := 2 * t.m.dim
	return t.moments[t.lo*width : (t.lo+t.n)*width], nil
}

// Score implements Tape. It keeps params and b, which must be unchanged when
// Backprop is called.
func (t *gaussianTape) Score(params []float32, b *Batch, out *Scores) error {
	if err := t.Begin(params, &b.States, true); err != nil {
		return err
	}
	return t.Finish(b, out)
}

// Finish implements Tape.
func (t *gaussianTape) Finish(b *Batch, out *Scores) error {
	return t.end(b, func() (err error) {
		if err := t.extend(); err != nil {
			return err
		}
		if out.LogPF, err = t.pick(out.LogPF, Forward, b.FState, b.FAction); err != nil {
			return err
		}
		out.LogF = t.flows(out.LogF)
		out.LogPB, err = t.pick(out.LogPB, Backward, b.BState, b.BAction)
		return err
	})
}

// row is what is known of a state: the steps taken, and its point.
func (t *gaussianTape) row(i int) (step int, x []float32) {
	f := t.states.Dense[i*t.m.dense : (i+1)*t.m.dense]
	return int(f[0]), f[1 : 1+t.m.dim]
}

// check compares the states that are not scored yet with the model's shapes.
func (t *gaussianTape) check() error {
	s := t.states
	if s.N < t.done || len(s.Dense) != s.N*t.m.dense {
		return fmt.Errorf("%w: %d dense features for %d states of %d", ErrShape, len(s.Dense), s.N, t.m.dense)
	}
	for i := t.done; i < s.N; i++ {
		if step := s.Dense[i*t.m.dense]; !(step >= 0 && step <= float32(t.m.steps)) || step != float32(int(step)) {
			return fmt.Errorf("%w: state %d is after %v steps; there are %d", ErrShape, i, step, t.m.steps)
		}
	}
	return nil
}

// extend scores the states that are new.
func (t *gaussianTape) extend() error {
	if err := t.check(); err != nil {
		return err
	}
	if t.done == t.states.N {
		t.n = 0
		return nil
	}
	return t.advance()
}

// advance takes the new states through the network.
func (t *gaussianTape) advance() error {
	if !t.keep {
		t.from = t.done
	}
	t.lo, t.n = t.done-t.from, t.states.N-t.done
	rows := t.lo + t.n
	for i := range t.acts {
		t.acts[i].grow(rows)
	}
	t.moments = extended(t.moments, rows*2*t.m.dim)
	if t.flowing() {
		t.flow.grow(rows)
	}
	t.block = t.blockOf(t.n)
	parts := (t.n + t.block - 1) / t.block
	resize(&t.bad, parts)
	resize(&t.badFlow, parts)
	t.do(parts, &t.forward)
	t.done = t.states.N
	for p := range parts {
		first := t.from + t.lo + p*t.block
		if bad := t.bad[p]; bad >= 0 {
			return fmt.Errorf("%w of the forward policy in state %d", ErrNonFinite, first+bad)
		}
		if bad := t.badFlow[p]; t.flowing() && bad >= 0 {
			return fmt.Errorf("%w of the flow in state %d", ErrNonFinite, first+bad)
		}
	}
	return nil
}

// runForward takes a block of states through the network.
func (t *gaussianTape) runForward(part int) {
	from := t.lo + part*t.block
	to := min(from+t.block, t.lo+t.n)
	scale := float32(1 / t.m.sigma)
	for i := from; i < to; i++ {
		step, x := t.row(t.from + i)
		in := t.acts[0].rows(i, i+1).Row(0)
		for j, v := range x {
			in[j] = v * scale
		}
		copy(in[t.m.dim:], t.m.times[step*timeFeatures:(step+1)*timeFeatures])
		if t.m.langevin {
			t.squash(in[t.m.dim+timeFeatures:], t.from+i)
		}
	}
	for i, l := range t.m.layers {
		act := t.m.act
		if i == len(t.m.layers)-1 {
			act = kernels.Linear
		}
		kernels.Layer(t.acts[i+1].rows(from, to), t.acts[i].rows(from, to), l.weight.matrix(t.params), l.bias.of(t.params), act)
	}
	t.bad[part] = -1
	for i := from; i < to; i++ {
		if !t.moment(i) && t.bad[part] < 0 {
			t.bad[part] = i - from
		}
	}
	if t.flowing() {
		l, top := t.m.flow, len(t.m.layers)-1
		f, weight := t.flow.rows(from, to), kernels.Dense(l.in, 1, l.weight.of(t.params)) // [1, in] turned is the same numbers
		kernels.Layer(f, t.acts[top].rows(from, to), weight, l.bias.of(t.params), kernels.Linear)
		t.badFlow[part] = firstNonFinite(f)
	}
}

// flowing says whether the pass gives log F.
func (t *gaussianTape) flowing() bool { return t.keep && !t.m.flow.uniform }

// flows writes log F of every state; nothing without a flow head.
func (t *gaussianTape) flows(dst []float64) []float64 {
	if !t.flowing() {
		return dst[:0]
	}
	resize(&dst, t.states.N)
	for i := range dst {
		step, x := t.row(i)
		dst[i] = t.m.passed(step, x) + float64(t.flow.data[i])
	}
	return dst
}

// squash writes asinh of σ∇log R of a state.
func (t *gaussianTape) squash(dst []float32, i int) {
	end := (i + 1) * t.m.dense
	for j, g := range t.states.Dense[end-t.m.dim : end] {
		dst[j] = float32(math.Asinh(t.m.sigma * float64(g)))
	}
}

// moment turns the outputs of a row into means and standard deviations, and says
// whether they are finite.
func (t *gaussianTape) moment(i int) bool {
	m, d := t.m, t.m.dim
	step, x := t.row(t.from + i)
	out, to := t.acts[len(m.layers)].rows(i, i+1).Row(0), t.moments[i*2*d:(i+1)*2*d]
	reference := m.sigma * math.Sqrt(m.delta())
	reach := m.reach(step)
	ok := true
	for j, v := range x {
		mean, std := float64(v)+float64(reach*float64(out[j])), reference
		if m.learnStd {
			std *= math.Exp(stdRange * math.Tanh(float64(out[d+j])))
		}
		to[j], to[d+j] = mean, std
		ok = ok && mean-mean == 0 && std-std == 0
	}
	return ok
}

// pick writes the log-probability of every transition of a direction.
func (t *gaussianTape) pick(dst []float64, dir Direction, state, action []int32) ([]float64, error) {
	d, n := t.m.dim, t.states.N
	if len(state)*d != len(action) {
		return dst, fmt.Errorf("%w: %d states and %d words of %s actions", ErrShape, len(state), len(action), dir)
	}
	resize(&dst, len(state))
	for i, s := range state {
		a := action[i*d : (i+1)*d]
		if uint(s) >= uint(n) {
			return dst, fmt.Errorf("%w: %s transition %d is from state %d of %d", ErrShape, dir, i, s, n)
		}
		step, x := t.row(int(s))
		if dir == Forward && step == t.m.steps || dir == Backward && step < 2 || !finitePoint(a) {
			return dst, fmt.Errorf("%w: %s transition %d leaves state %d, after %d of %d steps, for %v", ErrForbidden, dir, i, s, step, t.m.steps, a)
		}
		moments := t.moments[int(s)*2*d : (int(s)+1)*2*d]
		if dir == Backward {
			t.m.bridge(step, x, t.back)
			moments = t.back
		}
		dst[i] = LogNormal(a, moments[:d], moments[d:])
	}
	return dst, nil
}

func finitePoint(words []int32) bool {
	for _, w := range words {
		if v := envs.Coordinate(w); v-v != 0 {
			return false
		}
	}
	return true
}
