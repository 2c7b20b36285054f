package losses

import (
	"fmt"
	"math"
)

const (
	// customReach is the |δ| up to which a custom member is checked; it goes on
	// linearly beyond, so what was not checked is never used.
	customReach = 100.0
	// knotStep is the distance between the points where the integrals of a
	// custom member are stored.
	knotStep = 0.5
	// customHuge ends the checked range where values approach overflow.
	customHuge = 1e250
)

// custom is a member given by the user as g'(δ), or as f″(u), which is
// g″(δ)/u² at u = e^{−δ}. Its integrals from 0 to multiples of knotStep are
// stored, so that a value costs quadrature over one short interval.
type custom struct {
	name string
	// g1Expr is the given g'; nil when g2Expr, from f″, was given.
	g1Expr node
	g2Expr func(delta float64) float64
	// Each side ends at a knot: lo = −knotStep·(len(below)−1).
	above, below []knot
	hi, lo       float64
}

// knot holds the integrals up to one multiple of knotStep.
type knot struct{ g, g1 float64 }

// newCustom compiles and checks a member; kind is "g1" or "f2". The error text
// says what would be right, what is wrong, and at which δ or u.
func newCustom(name, kind, text string) (*custom, error) {
	m := &custom{name: name}
	switch kind {
	case "g1":
		n, err := compileExpression(text, "delta")
		if err != nil {
			return nil, err
		}
		m.g1Expr = n
		m.g2Expr = func(delta float64) float64 { return n(dual{delta, 1}).d }
	case "f2":
		n, err := compileExpression(text, "u")
		if err != nil {
			return nil, err
		}
		m.g2Expr = func(delta float64) float64 {
			u := math.Exp(-delta)
			return u * u * n(dual{v: u}).v
		}
	default:
		return nil, fmt.Errorf("losses: g1=<expression of delta> or f2=<expression of u>, not %q", kind)
	}
	if err := m.checkOrigin(); err != nil {
		return nil, err
	}
	if err := m.checkConvex(); err != nil {
		return nil, err
	}
	m.above = m.knots(m.hi)
	m.below = m.knots(m.lo)
	return m, nil
}

// checkOrigin wants g'(0) = 0 and g″(0) = 1.
func (m *custom) checkOrigin() error {
	if m.g1Expr != nil {
		if v := m.g1Expr(dual{0, 1}).v; !(math.Abs(v) <= 1e-9) {
			return fmt.Errorf("losses: a g' that vanishes at delta = 0; here g'(0) = %.6g", v)
		}
	}
	for _, delta := range []float64{-1e-7, 0, 1e-7} { // both sides: a kink at 0 has two slopes
		if v := m.g2Expr(delta); !(math.Abs(v-1) <= 1e-5) {
			return fmt.Errorf("losses: %s = 1, so that steps compare with other members; here it is %.6g at delta = %g", m.second(0), v, delta)
		}
	}
	return nil
}

// second names the second derivative at δ in the user's own terms.
func (m *custom) second(delta float64) string {
	if m.g1Expr != nil {
		return fmt.Sprintf("g''(%.6g)", delta)
	}
	return fmt.Sprintf("u²·f''(u) at u = %.6g", math.Exp(-delta))
}

// checkConvex walks out from 0 on both sides, over a grid that is dense near
// 0, and sets lo and hi.
func (m *custom) checkConvex() (err error) {
	if m.hi, err = m.checkSide(1); err != nil {
		return err
	}
	m.lo, err = m.checkSide(-1)
	return err
}

func (m *custom) checkSide(side float64) (end float64, err error) {
	const points = 4000
	last, lastDelta := 0.0, 0.0
	for i := 1; i <= points; i++ {
		delta := side * customReach * math.Sinh(8*float64(i)/points) / math.Sinh(8)
		g2 := m.g2Expr(delta)
		g1 := last
		if m.g1Expr != nil {
			g1 = m.g1Expr(dual{v: delta}).v
		}
		switch {
		case math.IsNaN(g1) || math.IsNaN(g2):
			return 0, fmt.Errorf("losses: an expression defined for |delta| ≤ %g; here undefined at delta = %.6g (u = %.6g)", customReach, delta, math.Exp(-delta))
		case math.Abs(g1) > customHuge || math.Abs(g2) > customHuge:
			return m.lastKnot(lastDelta)
		case side*(g1-last) < -1e-10*(1+math.Abs(last)):
			return 0, falls(lastDelta, last, delta, g1)
		case g2 < -1e-9*(1+math.Abs(g1)):
			return 0, fmt.Errorf("losses: a convex g; here %s = %.6g at delta = %.6g", m.second(delta), g2, delta)
		}
		last, lastDelta = g1, delta
	}
	return side * customReach, nil
}

// falls reports that g' goes down from the lesser of a and b to the greater.
func falls(a, atA, b, atB float64) error {
	if a > b {
		a, atA, b, atB = b, atB, a, atA
	}
	return fmt.Errorf("losses: a convex g; here g' falls from %.6g at delta = %.6g to %.6g at delta = %.6g", atA, a, atB, b)
}

// lastKnot is the last knot not beyond delta.
func (m *custom) lastKnot(delta float64) (float64, error) {
	end := math.Trunc(delta/knotStep) * knotStep
	if end == 0 {
		return 0, fmt.Errorf("losses: an expression that is finite around 0; here it overflows beyond delta = %.6g", delta)
	}
	return end, nil
}

// knots integrates from 0 to end, a multiple of knotStep.
func (m *custom) knots(end float64) []knot {
	n := int(math.Round(math.Abs(end) / knotStep))
	step := math.Copysign(knotStep, end)
	out := make([]knot, n+1)
	for i := 1; i <= n; i++ {
		from := step * float64(i-1)
		out[i] = m.advance(out[i-1], from, from+step)
	}
	return out
}

// advance integrates from the knot at a to delta.
func (m *custom) advance(k knot, a, delta float64) knot {
	if m.g1Expr != nil {
		g := integrate(func(s float64) float64 { return m.g1Expr(dual{v: s}).v }, a, delta)
		return knot{g: k.g + g, g1: m.g1Expr(dual{v: delta}).v}
	}
	h := delta - a
	once := integrate(m.g2Expr, a, delta)
	twice := integrate(func(s float64) float64 { return (delta - s) * m.g2Expr(s) }, a, delta)
	return knot{g: k.g + float64(k.g1*h) + twice, g1: k.g1 + once}
}

// at returns the integrals at a δ in [lo, hi], from the nearest knot inside.
func (m *custom) at(delta float64) knot {
	side := m.above
	if delta < 0 {
		side = m.below
	}
	i := int(math.Abs(delta) / knotStep)
	from := math.Copysign(float64(i)*knotStep, delta)
	if from == delta {
		return side[i]
	}
	return m.advance(side[i], from, delta)
}

func (m *custom) inside(delta float64) float64 { return math.Max(m.lo, math.Min(m.hi, delta)) }

func (m *custom) Name() string                    { return m.name }
func (m *custom) Smooth() bool                    { return true }
func (m *custom) EffectiveAlpha() (float64, bool) { return 0, false }
func (m *custom) Behaviour() string               { return "user-defined" }

func (m *custom) G(delta float64) float64 {
	in := m.inside(delta)
	k := m.at(in)
	return clamp(k.g + float64(k.g1*(delta-in)))
}

func (m *custom) G1(delta float64) float64 {
	in := m.inside(delta)
	if m.g1Expr != nil {
		return m.g1Expr(dual{v: in}).v
	}
	return m.at(in).g1
}

func (m *custom) G2(delta float64) float64 {
	if delta < m.lo || delta > m.hi {
		return 0
	}
	return math.Max(0, m.g2Expr(delta))
}

func (m *custom) F(u float64) float64 { return fFromG1(m.G1, u) }
