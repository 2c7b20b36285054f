package losses

import (
	"fmt"
	"math"
)

// FM is flow matching (Bengio et al., NeurIPS 2021): the flow into every state but
// s0 equals the flow through it,
//
//	δ(s) = log Σ_{s'→s} F(s') P_F(s|s') − log F(s),
//
// with log F(s0) = log Z and log F(x) = log R(x). Outflows need no residual: they
// are F(s) by construction, as P_F sums to one. The square of the original is
// replaced by g. All states that a trajectory comes to count alike. log P_B is no
// part of it.
type FM struct {
	stepwise
	in []float64 // log flows along the transitions into a state
}

// NewFM returns flow matching. Faults are *fielderr.Error.
func NewFM(m *Member, b Backward) (*FM, error) {
	s, err := newStepwise(m, b)
	return &FM{stepwise: s}, err
}

// Evaluate implements Objective.
func (o *FM) Evaluate(update int64, in *Input, out *Output) error {
	total, err := o.begin(in, out)
	if err != nil {
		return err
	}
	x := in.Steps
	if err := x.checkEdges(); err != nil {
		return err
	}
	d := o.Member(update)
	start, tail := TailStart(d)
	source := x.State[0]
	for i := range in.LogPF {
		lo, hi := x.Offset[i], x.Offset[i+1]
		share := in.share(i, total)
		part := share / float64(hi-lo)
		for t := lo; t < hi; t++ {
			edge, end := t, t+1
			if l := x.Into[t]; l >= 0 {
				edge, end = x.EdgeOffset[l], x.EdgeOffset[l+1]
			}
			inflow := o.inflow(in, source, edge, end)
			through := in.LogReward[i]
			if t+1 < hi {
				through = x.flow(x.State[t+1])
			}
			delta := inflow - through
			if !isFinite(delta) {
				return fmt.Errorf("losses: trajectory %d: residual %v after %d transitions: %w", i, delta, t-lo+1, ErrNonFinite)
			}
			w := part * d.G1(delta)
			out.Loss += float64(part * d.G(delta))
			out.Delta = append(out.Delta, delta)
			o.tail.add(w, delta, start, tail)
			if t+1 < hi {
				out.F[x.State[t+1]] -= w
			}
			for k, log := range o.in {
				step := edge + int32(k)
				v := w * math.Exp(log-inflow)
				out.PF[step] += v
				if x.State[step] == source {
					out.GradLogZ += v
				} else {
					out.F[x.State[step]] += v
				}
			}
		}
		o.likelihood(x, i, share, out)
	}
	o.end(d, in, out)
	return nil
}

// inflow is the log of the flow along some transitions, which o.in holds by
// transition then.
func (o *FM) inflow(in *Input, source, from, to int32) float64 {
	x := in.Steps
	o.in = o.in[:0]
	top := math.Inf(-1)
	for t := from; t < to; t++ {
		f := in.LogZ
		if s := x.State[t]; s != source {
			f = x.flow(s)
		}
		o.in = append(o.in, f+x.LogPF[t])
		top = math.Max(top, o.in[t-from])
	}
	if len(o.in) == 1 {
		return top
	}
	sum := 0.0
	for _, v := range o.in {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum)
}
