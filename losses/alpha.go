package losses

import (
	"math"
	"strconv"
)

// alpha is the alpha family: with b = 1 − α,
//
//	g'(δ) = (1 − e^{−bδ})/b,  f(u) = (u^b − 1 − b(u − 1)) / (b(b − 1)).
//
// Linex with parameter a is the member α = 1 + a.
type alpha struct {
	name string
	b    float64
}

func (m alpha) Name() string                    { return m.name }
func (m alpha) Smooth() bool                    { return true }
func (m alpha) EffectiveAlpha() (float64, bool) { return 1 - m.b, true }
func (m alpha) Behaviour() string               { return alphaBehaviour(1 - m.b) }

// G is (bδ + expm1(−bδ))/b², written so that b → 0 is no special case.
func (m alpha) G(delta float64) float64 {
	x := clamp(-m.b * delta)
	switch {
	case math.Abs(x) < 0.5:
		return clamp(delta * (delta * relExp2(x)))
	case x > maxExponent: // the tangent at the point of saturation
		e := math.Expm1(maxExponent)
		return clamp((e + e*(x-maxExponent) - maxExponent) / m.b / m.b)
	}
	return clamp((math.Expm1(x) - x) / m.b / m.b)
}

func (m alpha) G1(delta float64) float64 {
	x := clamp(-m.b * delta)
	switch {
	case math.Abs(x) < 0.5:
		return delta * relExp(x)
	case x > maxExponent:
		x = maxExponent
	}
	return clamp(-math.Expm1(x) / m.b)
}

func (m alpha) G2(delta float64) float64 {
	x := -m.b * delta
	if x > maxExponent {
		return 0
	}
	return math.Exp(x)
}

func (m alpha) F(u float64) float64 {
	b, c := m.b, m.b-1
	switch {
	case u == 0 && b > 0:
		return 1 / b
	case u == 0:
		return math.Inf(1)
	case nearOne(u):
		return fFromG1(m.G1, u)
	}
	// Of the two equal forms, the one whose remaining divisor is not near 0.
	log := math.Log(u)
	if math.Abs(b) < math.Abs(c) {
		return (log*relExp(b*log) - (u - 1)) / c
	}
	return (u*(log*relExp(c*log)) - (u - 1)) / b
}

func alphaBehaviour(a float64) string {
	switch {
	case a < -0.25:
		return "strongly mode-covering"
	case a <= 0.25:
		return "mode-covering"
	case a < 0.9:
		return "between covering and seeking"
	case a <= 1.1:
		return "mode-seeking"
	case a < 1.75:
		return "more seeking than reverse KL"
	}
	return "strongly mode-seeking"
}

func formatNumber(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
