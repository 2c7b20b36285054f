package fit

import (
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/losses"
)

// Behaviour is what trajectories are sampled with: with probability Given from a
// fixed distribution, and else from the model itself as it is.
type Behaviour struct {
	Given float64   // from 0, on-policy, to 1, off-policy
	Mu    []float64 // probability of every cell; not used when Given is 0
}

// ErrRest says that the flow of the gradient came to no rest.
var ErrRest = fmt.Errorf("%w: the gradient does not come to rest", ErrNoFit)

// Rest follows the expected update from a start until it vanishes: to θ, and c
// with Free, with E_μ(θ)[g'(δ) ∇ log q_θ] = 0. On-policy, with the exact log Z or
// for the alpha family, that is a minimum of D_f; and a constant lag does not
// move it, for there the model of the past is that of now. A behaviour that
// depends on θ has no loss that would be minimised in general, so this is a zero
// and not a minimum. Steps are measured in the model's own units (the diagonal
// of its Fisher matrix).
func (p *Problem) Rest(d losses.Divergence, b Behaviour, n Normaliser, start []float64) (Fit, error) {
	l, err := p.newLoss(d, n)
	if err != nil {
		return Fit{}, err
	}
	size := len(start)
	theta := slices.Clone(start)
	var (
		logQ, mu, weight           = make([]float64, len(p.logR)), make([]float64, len(p.logR)), make([]float64, len(p.logR))
		gradient, unit, step, last = make([]float64, size), make([]float64, size), make([]float64, size), make([]float64, size)
		rate                       = 0.25
		value                      float64
	)
	for range 20_000 {
		p.LogProb(theta, logQ)
		for i, lq := range logQ {
			mu[i] = (1 - b.Given) * math.Exp(lq)
			if b.Given > 0 {
				mu[i] += b.Given * b.Mu[i]
			}
		}
		if value, err = l.at(logQ, mu); err != nil {
			return Fit{}, fmt.Errorf("%s: %w", d.Name(), err)
		}
		clear(weight)
		for k, cell := range l.cell {
			weight[cell] = l.out.W[k]
		}
		p.score(theta, logQ, weight, gradient)
		p.fisher(theta, logQ, unit)
		moved, turned := 0.0, 0.0
		for k := range theta {
			// The largest step is a fifth of a standard deviation, or of its logarithm.
			bound := 0.2
			if k < p.dim {
				bound *= math.Exp(theta[p.dim+k])
			}
			step[k] = max(-bound, min(bound, rate*gradient[k]/(unit[k]+1e-300)))
			moved = max(moved, math.Abs(step[k])/bound)
			turned += step[k] * last[k] / (bound * bound)
		}
		if moved <= 1e-10*rate {
			return Fit{Theta: theta, Value: value, C: l.out.C[0]}, nil
		}
		switch {
		case turned < 0:
			rate /= 2 // it went past
		default:
			rate = min(rate*1.02, 1)
		}
		for k := range theta {
			theta[k] -= step[k]
		}
		copy(last, step)
	}
	return Fit{Theta: theta, Value: value, C: l.out.C[0]}, fmt.Errorf("%s: %w", d.Name(), ErrRest)
}
