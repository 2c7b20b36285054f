package losses

import (
	"math"

	"gonum.org/v1/gonum/integrate/quad"
)

// maxExponent is the largest exponent that is computed exactly; members go on
// linearly beyond it.
const maxExponent = 690

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// clamp turns an overflow into the largest finite number of its sign.
func clamp(x float64) float64 {
	return math.Max(-math.MaxFloat64, math.Min(math.MaxFloat64, x))
}

// relExp is (e^x − 1)/x, 1 at 0.
func relExp(x float64) float64 {
	if math.Abs(x) < 1e-5 {
		return 1 + x/2*(1+x/3)
	}
	return math.Expm1(x) / x
}

// relExp2 is (e^x − 1 − x)/x², ½ at 0, for |x| ≤ ½, where the difference
// cancels: its series Σ x^k/(k+2)!.
func relExp2(x float64) float64 {
	sum := 0.0
	for k := 15; k >= 1; k-- {
		sum = (sum + 1) * x / float64(k+2)
	}
	return (sum + 1) / 2
}

// logCosh is log cosh x.
func logCosh(x float64) float64 {
	x = math.Abs(x)
	if x < 0.5 {
		s := math.Sinh(x)
		return math.Log1p(s*s) / 2
	}
	return x + math.Log1p(math.Exp(-2*x)) - math.Ln2
}

// sigmoid is 1/(1 + e^{−x}) without overflow.
func sigmoid(x float64) float64 {
	if x < 0 {
		e := math.Exp(x)
		return e / (1 + e)
	}
	return 1 / (1 + math.Exp(-x))
}

// tanhSeries holds the Taylor coefficients of tanh x in x, x³, x⁵, …; for
// |x| ≤ ⅛ the first nine reach full precision (the radius is π/2).
var tanhSeries = [...]float64{
	1, -1.0 / 3, 2.0 / 15, -17.0 / 315, 62.0 / 2835, -1382.0 / 155925,
	21844.0 / 6081075, -929569.0 / 638512875, 6404582.0 / 10854718875,
}

// seriesBelow is the |δ| under which differences that cancel are summed as series.
const seriesBelow = 0.25

// minusTanh is x − tanh x; below |x| = ⅛ by series, relative to its own size.
func minusTanh(x float64) float64 {
	if math.Abs(x) > seriesBelow/2 {
		return x - math.Tanh(x)
	}
	sum := 0.0
	for k := len(tanhSeries) - 1; k >= 1; k-- {
		sum = (sum + tanhSeries[k]) * x * x
	}
	return -sum * x
}

// gaussPoints is the order of the Gauss–Legendre rule: exact to rounding for
// the smooth integrands of this package on an interval of length ½.
const gaussPoints = 14

// gauss is the rule on [−1, 1]; it is computed once and only read.
var gauss = newRule()

type rule struct{ x, w [gaussPoints]float64 }

func newRule() *rule {
	r := new(rule)
	quad.Legendre{}.FixedLocations(r.x[:], r.w[:], -1, 1)
	return r
}

// panel is ∫_a^b f by one application of the rule; a > b gives the signed value.
func (r *rule) panel(f func(float64) float64, a, b float64) float64 {
	mid, half := (a+b)/2, (b-a)/2
	var sum float64
	for i, x := range r.x {
		sum += float64(r.w[i] * f(mid+float64(half*x)))
	}
	return sum * half
}

// integrate is ∫_a^b f, halving intervals until the rule agrees with itself.
// Smooth f cost three panels; a kink is isolated by bisection. The work is
// bounded, so f whose own rounding errors forbid agreement cost a moment.
func integrate(f func(float64) float64, a, b float64) float64 {
	if a == b {
		return 0
	}
	r := refinement{f: f, panels: 64}
	return r.refine(a, b, gauss.panel(f, a, b))
}

type refinement struct {
	f      func(float64) float64
	tol    float64 // grows to 1e-13 of the largest part seen
	panels int     // how many more may be halved
}

func (r *refinement) refine(a, b, whole float64) float64 {
	mid := a + (b-a)/2
	left, right := gauss.panel(r.f, a, mid), gauss.panel(r.f, mid, b)
	// The halves are far more accurate than their difference from the whole.
	r.tol = math.Max(r.tol, 1e-13*math.Abs(left+right))
	r.panels--
	if r.panels < 0 || math.Abs(left+right-whole) <= r.tol {
		return left + right
	}
	return r.refine(a, mid, left) + r.refine(mid, b, right)
}

// fFromG1 is f(u) by f(e^{−δ}) = ∫_0^δ g'(s) e^{s−δ} ds, which follows from
// d(f/u)/du = −g'(−log u)/u². The integrand has one sign, so nothing cancels:
// it serves members without a closed form, and all others near u = 1.
func fFromG1(g1 func(float64) float64, u float64) float64 {
	if u == 0 { // the limit: f(0) = g'(∞)
		if end := g1(math.MaxFloat64); end < 1e290 {
			return end
		}
		return math.Inf(1)
	}
	delta := -math.Log(u)
	return integrate(func(s float64) float64 { return g1(s) * math.Exp(s-delta) }, 0, delta)
}

// nearOne reports whether the closed forms of f cancel at u.
func nearOne(u float64) bool { return u > 0.6 && u < 1.6 }
