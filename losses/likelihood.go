package losses

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// ML is maximum likelihood: the loss is −mean log P_F(τ) of trajectories that
// were sampled backward from objects of a data set. By Jensen's inequality it
// bounds, up to a constant, the forward KL divergence from the data to the
// model's objects. Rewards play no part; residuals are reported all the same,
// with their mean taken off.
type ML struct {
	backward Backward
	sorted   []float64
}

// NewML returns maximum likelihood. A joint P_B is a fault (*fielderr.Error): the
// loss has no log P_B.
func NewML(b Backward) (*ML, error) {
	if _, err := ParseBackward(string(b)); err != nil {
		return nil, err
	}
	if b == Joint {
		return nil, fielderr.New("backward", string(b), "frozen, uniform or max_likelihood")
	}
	return &ML{backward: b}, nil
}

// Member implements Objective: forward KL.
func (o *ML) Member(int64) Divergence { return forwardKLOfData }

var forwardKLOfData Divergence = alpha{name: "forward_kl", b: 1}

// State implements Objective: there is none.
func (o *ML) State() []float64 { return nil }

// Restore implements Objective.
func (o *ML) Restore(state []float64) error {
	return new(stepwise).Restore(state)
}

// Evaluate implements Objective.
func (o *ML) Evaluate(_ int64, in *Input, out *Output) error {
	if err := in.check(1); err != nil {
		return err
	}
	total, err := checkWeights(in.Weights)
	if err != nil {
		return err
	}
	n := len(in.LogPF)
	out.W, out.WB, out.Delta = resize(out.W, n), resize(out.WB, n), resize(out.Delta, n)
	out.PF, out.PB, out.F = out.PF[:0], out.PB[:0], out.F[:0]
	out.Loss, out.GradLogZ = 0, 0
	for i, log := range in.LogPF {
		share := in.share(i, total)
		out.Loss -= float64(share * log)
		out.W[i], out.WB[i] = -share, 0
		if o.backward == MaxLikelihood {
			out.WB[i] = -share
		}
		out.Delta[i] = log - in.LogReward[i] - in.LogPB[i]
		if !isFinite(out.Delta[i]) {
			return fmt.Errorf("losses: trajectory %d: residual %v: %w", i, out.Delta[i], ErrNonFinite)
		}
	}
	c := -mean(out.Delta)
	out.C = append(out.C[:0], c)
	for i := range out.Delta {
		out.Delta[i] += c
	}
	o.sorted = out.Diagnostics.measure(o.Member(0), in, out, o.sorted)
	return nil
}
