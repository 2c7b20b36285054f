package policy

import (
	"fmt"
	"math"
)

// shallow is a model without layers: the logits of a state come straight from
// parameters. A shallowTape makes a Tape of it. A direction that is uniform has
// no parameters, and the last two methods are not called for it.
type shallow interface {
	size() int // number of parameters
	width(dir Direction) int
	uniform(dir Direction) bool
	// place is what tells the state with these features from others. Features out
	// of range are an error that wraps ErrShape.
	place(features []int32) (int, error)
	// flow is the tensor of log F, a number for each place; false: the model has none.
	flow() (Param, bool)
	// logits writes those of a place.
	logits(params []float32, dir Direction, place int, out []float64)
	// descend adds Σ_a d[a] ∇ logit_a to grad.
	descend(params []float32, dir Direction, place int, d []float64, grad []float32)
}

// shallowTape implements Tape in float64. These models are too small to share
// work over cores.
type shallowTape struct {
	m shallow
	pass

	places []int
	heads  [2]shallowHead // by Direction
	d      []float64      // gradients with respect to the logits of one state
}

// shallowHead holds what a direction has of every state, row by row.
type shallowHead struct {
	on     bool // computed in this pass
	logp   []float64
	prob   []float64
	weight []float64 // sum of the weights of each action
}

func newShallowTape(m shallow) *shallowTape { return &shallowTape{m: m} }

// Share implements Tape.
func (t *shallowTape) Share(Cores) {}

// LogProbs implements Tape.
func (t *shallowTape) LogProbs(params []float32, s *States, dir Direction, out []float32) error {
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
	if t.m.uniform(dir) {
		uniformLogProbs(out, mask, t.m.width(dir))
		return nil
	}
	t.heads[Forward].on, t.heads[Backward].on = dir == Forward, dir == Backward
	if err := t.advance(); err != nil {
		return err
	}
	for i, lp := range t.heads[dir].logp[:len(out)] {
		out[i] = float32(lp)
	}
	return nil
}

// Begin implements Tape.
func (t *shallowTape) Begin(params []float32, s *States, keep bool) error {
	if err := t.begin(t.m.size(), params, s, keep); err != nil {
		return err
	}
	t.heads[Forward].on, t.heads[Backward].on = true, keep && !t.m.uniform(Backward)
	return nil
}

// Extend implements Tape.
func (t *shallowTape) Extend() ([]float64, error) {
	if t.states == nil {
		return nil, ErrNoPass
	}
	first := t.done
	if err := t.extend(); err != nil {
		return nil, err
	}
	width := t.m.width(Forward)
	return t.heads[Forward].prob[(first-t.from)*width : (t.done-t.from)*width], nil
}

// Score implements Tape. It keeps params and b, which must be unchanged when
// Backprop is called.
func (t *shallowTape) Score(params []float32, b *Batch, out *Scores) error {
	if err := t.Begin(params, &b.States, true); err != nil {
		return err
	}
	return t.Finish(b, out)
}

// Finish implements Tape.
func (t *shallowTape) Finish(b *Batch, out *Scores) error {
	return t.end(b, func() (err error) {
		if err := t.extend(); err != nil {
			return err
		}
		if out.LogPF, err = t.pick(out.LogPF, Forward, b.FState, b.FAction, b.States.ForwardMask); err != nil {
			return err
		}
		if out.LogPB, err = t.pick(out.LogPB, Backward, b.BState, b.BAction, b.States.BackwardMask); err != nil {
			return err
		}
		out.LogF, err = t.flows(out.LogF)
		return err
	})
}

// flows writes log F of every state; nothing for a model without.
func (t *shallowTape) flows(dst []float64) ([]float64, error) {
	p, ok := t.m.flow()
	if !ok {
		return dst[:0], nil
	}
	resize(&dst, t.states.N)
	table := p.of(t.params)
	for i := range dst {
		v := table[t.places[i]]
		if v-v != 0 {
			return dst, fmt.Errorf("%w of %s in state %d", ErrNonFinite, output(int(flow)), i)
		}
		dst[i] = float64(v)
	}
	return dst, nil
}

// extend scores the states that are new.
func (t *shallowTape) extend() error {
	if _, err := t.check(Forward); err != nil {
		return err
	}
	if t.keep {
		if _, err := t.check(Backward); err != nil {
			return err
		}
	}
	return t.advance()
}

// check compares the shapes of the states with the model's and returns their
// masks of the direction.
func (t *shallowTape) check(dir Direction) ([]bool, error) {
	s := t.states
	if dir != Forward && dir != Backward {
		return nil, fmt.Errorf("%w: direction %d", ErrShape, dir)
	}
	mask := s.ForwardMask
	if dir == Backward {
		mask = s.BackwardMask
	}
	if width := t.m.width(dir); s.N < t.done || len(mask) != s.N*width {
		return nil, fmt.Errorf("%w: a mask of %d for %d states with %d actions", ErrShape, len(mask), s.N, width)
	}
	if len(s.FeatOffset) != s.N+1 {
		return nil, fmt.Errorf("%w: %d feature offsets for %d states", ErrShape, len(s.FeatOffset), s.N)
	}
	return mask, nil
}

// advance scores the states from done on.
func (t *shallowTape) advance() error {
	s := t.states
	if !t.keep {
		t.from = t.done
	}
	lo, hi := t.done-t.from, s.N-t.from // rows of the buffers
	t.places = extended(t.places, hi)
	for i := t.done; i < s.N; i++ {
		begin, end := s.FeatOffset[i], s.FeatOffset[i+1]
		if begin < 0 || end < begin || int(end) > len(s.FeatIndex) {
			return fmt.Errorf("%w: feature offset %d is %d", ErrShape, i+1, end)
		}
		at, err := t.m.place(s.FeatIndex[begin:end])
		if err != nil {
			return fmt.Errorf("state %d: %w", i, err)
		}
		t.places[i-t.from] = at
	}
	for dir := range t.heads {
		h, width := &t.heads[dir], t.m.width(Direction(dir))
		if !h.on {
			continue
		}
		h.logp, h.prob = extended(h.logp, hi*width), extended(h.prob, hi*width)
		mask := s.ForwardMask
		if Direction(dir) == Backward {
			mask = s.BackwardMask
		}
		for row := lo; row < hi; row++ {
			logp, prob := h.logp[row*width:(row+1)*width], h.prob[row*width:(row+1)*width]
			if t.m.uniform(Direction(dir)) {
				clear(logp)
			} else {
				t.m.logits(t.params, Direction(dir), t.places[row], logp)
			}
			if !softmax64(logp, prob, mask[(t.from+row)*width:][:width]) {
				return fmt.Errorf("%w of the %s policy in state %d", ErrNonFinite, Direction(dir), t.from+row)
			}
		}
	}
	t.done = s.N
	return nil
}

// softmax64 turns logits into log-probabilities, and writes the probabilities;
// false if a logit is not finite.
func softmax64(logp, prob []float64, legal []bool) bool {
	top := math.Inf(-1)
	for i, v := range logp {
		if v-v != 0 {
			return false
		}
		if legal[i] {
			top = max(top, v)
		}
	}
	sum := 0.0
	for i, v := range logp {
		if prob[i] = 0; legal[i] {
			prob[i] = math.Exp(v - top)
			sum += prob[i]
		}
	}
	lse := top + math.Log(sum)
	for i := range logp {
		if !legal[i] {
			logp[i] = math.Inf(-1)
			continue
		}
		logp[i] -= lse
		prob[i] /= sum
	}
	return true
}

// pick writes the log-probability of every transition of a direction.
func (t *shallowTape) pick(dst []float64, dir Direction, state, action []int32, mask []bool) ([]float64, error) {
	if len(state) != len(action) {
		return dst, fmt.Errorf("%w: %d states and %d actions of %s transitions", ErrShape, len(state), len(action), dir)
	}
	resize(&dst, len(state))
	width, n := t.m.width(dir), t.states.N
	for i, s := range state {
		a := action[i]
		if uint(s) >= uint(n) {
			return dst, fmt.Errorf("%w: %s transition %d is from state %d of %d", ErrShape, dir, i, s, n)
		}
		if uint(a) >= uint(width) || !mask[int(s)*width+int(a)] {
			return dst, fmt.Errorf("%w: %s transition %d takes action %d in state %d", ErrForbidden, dir, i, a, s)
		}
		if t.m.uniform(dir) {
			dst[i] = uniformLogProb(mask[int(s)*width:][:width])
		} else {
			dst[i] = t.heads[dir].logp[int(s)*width+int(a)]
		}
	}
	return dst, nil
}

// Backprop implements Tape. dlogits = Σ w·onehot − (Σ w)·π per state, the sums
// in the order of the transitions.
func (t *shallowTape) Backprop(w *Weights, grad []float32) error {
	p, flows := t.m.flow()
	b, err := t.scored(t.m.size(), flows, w, grad)
	if err != nil {
		return err
	}
	t.back(Forward, w.PF, b.FState, b.FAction, b.States.N, grad)
	t.back(Backward, w.PB, b.BState, b.BAction, b.States.N, grad)
	if flows {
		table := p.of(grad)
		for i, v := range w.F {
			table[t.places[i]] += float32(v)
		}
	}
	return nil
}

func (t *shallowTape) back(dir Direction, w []float64, state, action []int32, n int, grad []float32) {
	if len(w) == 0 || t.m.uniform(dir) {
		return
	}
	h, width := &t.heads[dir], t.m.width(dir)
	clear(resize(&h.weight, n*width))
	for i, s := range state {
		h.weight[int(s)*width+int(action[i])] += w[i]
	}
	resize(&t.d, width)
	for i := range n {
		weight, prob, total := h.weight[i*width:(i+1)*width], h.prob[i*width:(i+1)*width], 0.0
		some := false
		for _, v := range weight {
			total += v
			some = some || v != 0
		}
		if !some {
			continue
		}
		for a := range t.d {
			t.d[a] = weight[a] - float64(total*prob[a])
		}
		t.m.descend(t.params, dir, t.places[i], t.d, grad)
	}
}
