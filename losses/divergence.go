// Package losses holds the f-Trajectory-Balance family of losses (Fawkes and
// Hartford, "f-Trajectory Balance", ICML 2026): divergences, their modifiers,
// the normalisers that replace or fit log Z, and the trajectory-balance
// objective. It knows no model: scores go in, a loss and one weight per
// trajectory come out, because the gradient of every member is a weighted sum
// of score functions, Σ g'(δ_i) ∇(log Z + log P_F(τ_i) − log P_B(τ_i)).
//
// The residual of a trajectory τ that ends in x is, in nats,
//
//	δ = log Z + log P_F(τ) − log R(x) − log P_B(τ | x),    u = e^{−δ} = target / model.
//
// δ > 0: the model gives τ too much mass. Everything here is a pure function
// of its arguments and of explicit state; nothing draws random numbers.
package losses

import (
	"errors"
	"fmt"
	"math"
)

// ErrNonFinite is wrapped by errors about an infinite or undefined score; the
// error names the trajectory or outcome.
var ErrNonFinite = errors.New("not a finite number")

// Convention is the sentence to print wherever an alpha is shown: other work
// uses the same names with another sign of the residual.
const Convention = "alpha as in f-TB (residual δ = log Z + log P_F − log R − log P_B, u = e^{−δ} = target/model): " +
	"alpha 0 is forward KL (covering), alpha 1 is reverse KL (classic TB, seeking); linex:a is alpha:1+a. " +
	"Codes with the opposite residual sign swap the two ends."

// Divergence is one member of the family: a convex g with g(0) = g'(0) = 0,
// and the f with which it corresponds, D_f(p‖q) = E_q[f(p/q)] of target p and
// model q:
//
//	g'(δ) = f(u) − u f'(u),  g''(δ) = u² f''(u),  f(1) = f'(1) = 0.
//
// Implementations are immutable and safe for concurrent use. For every finite δ
// G, G1 and G2 are finite: where an exponential would overflow (an exponent
// beyond 690) g goes on linearly, so it stays convex.
type Divergence interface {
	// Name is the canonical spec of the member: Parse(d.Name()) gives it back.
	Name() string
	// G is the loss g(δ).
	G(delta float64) float64
	// G1 is g'(δ), the weight of a trajectory.
	G1(delta float64) float64
	// G2 is g''(δ) where it exists, and a one-sided value at a kink.
	G2(delta float64) float64
	// F is f(u) for u ≥ 0, with its limit (perhaps +Inf) at u = 0.
	F(u float64) float64
	// Smooth reports whether g'' exists at 0; then g''(0) = 1, or the scale
	// that a linear temper gives it.
	Smooth() bool
	// EffectiveAlpha is the alpha of the member of the alpha family that this
	// one equals, near the optimum when a tail is on. ok is false outside it.
	EffectiveAlpha() (alpha float64, ok bool)
	// Behaviour says in words what on-policy training with it does.
	Behaviour() string
}

// Evaluate writes g, g' and g″ of every delta; a nil destination is skipped,
// the others must have the length of delta. It does not allocate.
func Evaluate(d Divergence, delta, g, g1, g2 []float64) {
	for i, x := range delta {
		if g != nil {
			g[i] = d.G(x)
		}
		if g1 != nil {
			g1[i] = d.G1(x)
		}
		if g2 != nil {
			g2[i] = d.G2(x)
		}
	}
}

// Between returns D_f(p‖q) = Σ q f(p/q) of two distributions over the same
// finite set, given as finite log-probabilities in nats.
func Between(d Divergence, logP, logQ []float64) (float64, error) {
	if len(logP) != len(logQ) {
		return 0, fmt.Errorf("losses: %d probabilities of p against %d of q", len(logP), len(logQ))
	}
	var sum float64
	for i, lq := range logQ {
		if !isFinite(lq) || !isFinite(logP[i]) {
			return 0, fmt.Errorf("losses: outcome %d has log p = %v, log q = %v: %w", i, logP[i], lq, ErrNonFinite)
		}
		sum += float64(math.Exp(lq) * d.F(math.Exp(logP[i]-lq)))
	}
	return sum, nil
}
