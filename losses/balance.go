package losses

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Balance is sub-trajectory balance (Madan et al., ICML 2023): every piece of a
// trajectory, from its state i to its state j, has a residual
//
//	δ_ij = log F(s_i) + Σ_{i≤t<j} (log P_F(t) − log P_B(t)) − log F(s_j)
//
// with log F(s0) = log Z and log F(x) = log R(x), and counts λ^(j−i), normalised
// over the pieces of its trajectory, so that a long trajectory counts no more
// than a short one. As λ → 0 it is detailed balance, as λ → ∞ trajectory balance.
//
// A residual has the weight w_ij = λ_ij g'(δ_ij), which log F(s_i) gets, log F(s_j)
// gets with the other sign, and log P_F of each transition between gets as well:
// w_t = Σ_{i≤t<j} w_ij. It takes time quadratic in the length of a trajectory,
// unless λ = 0.
type Balance struct {
	stepwise
	lambda float64

	state []float64 // log F(s_t) − Σ_{k<t} (log P_F − log P_B)(k): δ_ij = state[i] − state[j]
	flow  []float64 // weights of log F
	power []float64 // weight of a piece by its length
}

// NewSubTB returns sub-trajectory balance. λ is positive; +Inf leaves the whole
// trajectory alone. Faults are *fielderr.Error.
func NewSubTB(m *Member, lambda float64, b Backward) (*Balance, error) {
	if !(lambda > 0) {
		return nil, fielderr.New("lambda", lambda, "a number above 0")
	}
	s, err := newStepwise(m, b)
	return &Balance{stepwise: s, lambda: lambda}, err
}

// NewDB returns detailed balance (Bengio et al., JMLR 2023): a residual for each
// transition. With potentials in Steps it is the forward-looking one (Pan et
// al., ICML 2023).
func NewDB(m *Member, b Backward) (*Balance, error) {
	s, err := newStepwise(m, b)
	return &Balance{stepwise: s}, err
}

// Evaluate implements Objective. Delta holds the residuals of whole trajectories.
func (o *Balance) Evaluate(update int64, in *Input, out *Output) error {
	total, err := o.begin(in, out)
	if err != nil {
		return err
	}
	d := o.Member(update)
	start, tail := TailStart(d)
	x := in.Steps
	for i := range in.LogPF {
		lo, hi := x.Offset[i], x.Offset[i+1]
		steps := int(hi - lo)
		if err := o.trace(i, in); err != nil {
			return err
		}
		out.Delta = append(out.Delta, o.state[0]-o.state[steps])
		share := in.share(i, total)
		o.weigh(steps)
		o.flow = resize(o.flow, steps+1)
		clear(o.flow)
		for span := 1; span <= steps; span++ {
			part := share * o.power[span]
			if part == 0 {
				continue
			}
			for a := 0; a+span <= steps; a++ {
				delta := o.state[a] - o.state[a+span]
				w := part * d.G1(delta)
				out.Loss += float64(part * d.G(delta))
				o.tail.add(w, delta, start, tail)
				o.flow[a] += w
				o.flow[a+span] -= w
			}
		}
		out.GradLogZ += o.flow[0]
		w := 0.0 // of the pieces that have begun, less those that have ended
		for t := range int32(steps) {
			w += o.flow[t]
			if t > 0 {
				out.F[x.State[lo+t]] += o.flow[t]
			}
			out.PF[lo+t] += w
			if b := x.Undo[lo+t]; b >= 0 && o.backward == Joint {
				out.PB[b] -= w
			}
		}
		o.likelihood(x, i, share, out)
	}
	o.end(d, in, out)
	return nil
}

// trace fills state with that of trajectory i.
func (o *Balance) trace(i int, in *Input) error {
	x := in.Steps
	lo, hi := x.Offset[i], x.Offset[i+1]
	o.state = append(o.state[:0], in.LogZ)
	sum := 0.0
	for t := lo; t < hi; t++ {
		if t > lo {
			o.state = append(o.state, x.flow(x.State[t])-sum)
		}
		sum += x.LogPF[t] - x.undone(t)
	}
	o.state = append(o.state, in.LogReward[i]-sum)
	for t, v := range o.state {
		if !isFinite(v) {
			return fmt.Errorf("losses: trajectory %d: residual %v after %d transitions: %w", i, v, t, ErrNonFinite)
		}
	}
	return nil
}

// weigh fills power for a trajectory with so many transitions. The largest power
// is 1, so that none overflows.
func (o *Balance) weigh(steps int) {
	o.power = resize(o.power, steps+1)
	base := 1
	if o.lambda > 1 {
		base = steps
	}
	sum := 0.0
	for span := 1; span <= steps; span++ {
		o.power[span] = math.Pow(o.lambda, float64(span-base))
		sum += float64(float64(steps+1-span) * o.power[span])
	}
	for span := 1; span <= steps; span++ {
		o.power[span] /= sum
	}
}
