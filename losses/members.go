package losses

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Building blocks of the mixed members.
var (
	reverseKL = alpha{name: "reverse_kl", b: 0}
	forwardKL = alpha{name: "forward_kl", b: 1}
)

// plain is shared by the members outside the alpha family.
type plain struct{ name, behaviour string }

func (p plain) Name() string                    { return p.name }
func (p plain) Behaviour() string               { return p.behaviour }
func (p plain) Smooth() bool                    { return true }
func (p plain) EffectiveAlpha() (float64, bool) { return 0, false }

// jeffreys is the mean of the two KL divergences; g' = (δ + 1 − e^{−δ})/2.
type jeffreys struct{ plain }

func (jeffreys) G(x float64) float64  { return clamp(reverseKL.G(x)/2 + forwardKL.G(x)/2) }
func (jeffreys) G1(x float64) float64 { return clamp(reverseKL.G1(x)/2 + forwardKL.G1(x)/2) }
func (jeffreys) G2(x float64) float64 { return 0.5 + forwardKL.G2(x)/2 }
func (jeffreys) F(u float64) float64  { return (u - 1) * math.Log(u) / 2 }

// jensenShannon is g' = 2(log 2 − softplus(−δ)), normalised to g”(0) = 1.
type jensenShannon struct{ plain }

// G integrates g' with the dilogarithm: ∫ softplus(−t) dt = Li₂(−e^{−t}),
// inverted for δ < 0 (Li₂(−e^x) = −π²/6 − x²/2 − Li₂(−e^{−x})) so that no
// exponential grows. Near 0 the terms cancel; there g” = 1 − tanh(δ/2) is
// integrated twice term by term.
func (jensenShannon) G(x float64) float64 {
	if math.Abs(x) < seriesBelow {
		h, sum := x/2, 0.0
		for k := len(tanhSeries) - 1; k >= 0; k-- {
			sum = sum*h*h + tanhSeries[k]/float64((2*k+2)*(2*k+3))
		}
		return x * x * (0.5 - h*sum)
	}
	tail := 2 * real(mathext.Li2(complex(-math.Exp(-math.Abs(x)), 0)))
	if x > 0 {
		return clamp(2*math.Ln2*x - tail - math.Pi*math.Pi/6)
	}
	return clamp(x*(x+2*math.Ln2) + tail + math.Pi*math.Pi/6)
}

func (jensenShannon) G1(x float64) float64 {
	if x < -1 {
		return clamp(2 * (math.Ln2 + x - math.Log1p(math.Exp(x))))
	}
	return -2 * math.Log1p(math.Expm1(-x)/2)
}

func (jensenShannon) G2(x float64) float64 { return 2 * sigmoid(-x) }

func (m jensenShannon) F(u float64) float64 {
	switch {
	case u == 0:
		return 2 * math.Ln2
	case nearOne(u):
		return fFromG1(m.G1, u)
	}
	return 2 * (u*math.Log(2*u/(1+u)) - math.Log((1+u)/2))
}

// shiftedCosh is g = cosh δ − 1.
type shiftedCosh struct{ plain }

func (shiftedCosh) G(x float64) float64 {
	x = math.Abs(x)
	if x > maxExponent {
		return clamp(math.Cosh(maxExponent) - 1 + math.Sinh(maxExponent)*(x-maxExponent))
	}
	s := math.Sinh(x / 2)
	return 2 * s * s
}

func (shiftedCosh) G1(x float64) float64 {
	return math.Sinh(math.Max(-maxExponent, math.Min(maxExponent, x)))
}

func (shiftedCosh) G2(x float64) float64 {
	if math.Abs(x) > maxExponent {
		return 0
	}
	return math.Cosh(x)
}

func (shiftedCosh) F(u float64) float64 {
	return forwardKL.F(u)/2 + (u-1)*((u-1)/u)/4
}

// triangular (Le Cam) is g' = (1 − u)(1 + 3u)/(1 + u)² = t(2 − t) with
// t = tanh(δ/2); weights between −3 and 1.
type triangular struct{ plain }

func (triangular) G(x float64) float64 { return clamp(4*logCosh(x/2) - 2*minusTanh(x/2)) }

func (triangular) G1(x float64) float64 {
	t := math.Tanh(x / 2)
	return t * (2 - t)
}

// G2 is 8u²/(1+u)³; the factors underflow to 0 and never meet an infinity.
func (triangular) G2(x float64) float64 {
	s := sigmoid(-x)
	return 8 * s * s * sigmoid(x)
}

func (triangular) F(u float64) float64 { return (u - 1) * ((u - 1) / (u + 1)) }

// totalVariation is g = |δ|/2; g' takes 0 at 0, and g” does not exist there.
type totalVariation struct{ plain }

func (totalVariation) Smooth() bool         { return false }
func (totalVariation) G(x float64) float64  { return math.Abs(x) / 2 }
func (totalVariation) G2(float64) float64   { return 0 }
func (totalVariation) F(u float64) float64  { return math.Abs(u-1) / 2 }
func (totalVariation) G1(x float64) float64 { return sign(x) / 2 }

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

// huber is reverse KL with weights clipped to [−k, k].
type huber struct {
	plain
	k float64
}

func (m huber) G(x float64) float64 {
	x = math.Abs(x)
	if x <= m.k {
		return x * (x / 2)
	}
	return clamp(m.k * (x - m.k/2))
}

func (m huber) G1(x float64) float64 { return math.Max(-m.k, math.Min(m.k, x)) }

func (m huber) G2(x float64) float64 {
	if math.Abs(x) <= m.k {
		return 1
	}
	return 0
}

func (m huber) F(u float64) float64 { return fBeyond(reverseKL, m.k, -m.k, m.k, u) }

// logCoshMember is g = log cosh δ.
type logCoshMember struct{ plain }

func (logCoshMember) G(x float64) float64  { return logCosh(x) }
func (logCoshMember) G1(x float64) float64 { return math.Tanh(x) }

func (logCoshMember) G2(x float64) float64 {
	if math.Abs(x) > maxExponent {
		return 0
	}
	c := math.Cosh(x)
	return 1 / c / c
}

// F integrates f″ = 4/(1 + u²)² twice.
func (m logCoshMember) F(u float64) float64 {
	if nearOne(u) {
		return fFromG1(m.G1, u)
	}
	return u*(2*math.Atan(u)-math.Pi/2-1) + 1
}

// fBeyond is the f of a member whose g' equals base's for |δ| ≤ k and is lo or
// hi beyond: f(e^{−δ}) = ∫_0^δ g'(s) e^{s−δ} ds, split at ∓k.
func fBeyond(base Divergence, k, lo, hi, u float64) float64 {
	delta := -math.Log(u)
	switch {
	case delta > k:
		r := math.Exp(k - delta)
		return r*base.F(math.Exp(-k)) + float64(hi*(1-r))
	case delta < -k:
		r := math.Exp(-k - delta)
		return r*base.F(math.Exp(k)) - float64(lo*(r-1))
	}
	return base.F(u)
}
