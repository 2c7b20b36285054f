package losses

import (
	"fmt"
	"math"
)

// tempered flattens the residual before the base sees it: (1/β²) g(βδ), which
// keeps g”(0) = 1, or with linear the paper's (1/β) g(βδ), which has g”(0) = β.
type tempered struct {
	base   Divergence
	beta   float64
	linear bool
}

func (m tempered) Name() string {
	kind := "temper"
	if m.linear {
		kind = "temper_linear"
	}
	return fmt.Sprintf("%s,%s:%s", m.base.Name(), kind, formatNumber(m.beta))
}

// scaled divides by β^n, with the β that the linear form has more. Dividing
// step by step keeps a small β from overflowing on the way.
func (m tempered) scaled(x float64, n int) float64 {
	if m.linear {
		n--
	}
	for ; n > 0; n-- {
		x /= m.beta
	}
	if n < 0 {
		x *= m.beta
	}
	return clamp(x)
}

func (m tempered) G(delta float64) float64  { return m.scaled(m.base.G(clamp(m.beta*delta)), 2) }
func (m tempered) G1(delta float64) float64 { return m.scaled(m.base.G1(clamp(m.beta*delta)), 1) }
func (m tempered) G2(delta float64) float64 { return m.scaled(m.base.G2(clamp(m.beta*delta)), 0) }
func (m tempered) Smooth() bool             { return m.base.Smooth() }

func (m tempered) F(u float64) float64 {
	if a, ok := m.EffectiveAlpha(); ok {
		f := alpha{b: 1 - a}.F(u)
		if m.linear {
			f *= m.beta
		}
		return f
	}
	return fFromG1(m.G1, u)
}

// EffectiveAlpha: tempering turns alpha:a into alpha:(1 − β(1 − a)).
func (m tempered) EffectiveAlpha() (float64, bool) {
	a, ok := m.base.EffectiveAlpha()
	return 1 - float64(m.beta*(1-a)), ok
}

func (m tempered) Behaviour() string {
	if a, ok := m.EffectiveAlpha(); ok {
		return alphaBehaviour(a)
	}
	return m.base.Behaviour() + ", tempered towards reverse KL"
}

// tailed continues g linearly beyond |δ| = k with slope g'(±k): still convex,
// so still in the family, with bounded weights and the same minimiser.
type tailed struct {
	base           Divergence
	k              float64
	gLo, gHi       float64 // g(∓k)
	slopeLo, slope float64 // g'(−k), g'(k)
}

func newTailed(base Divergence, k float64) tailed {
	return tailed{base: base, k: k, gLo: base.G(-k), gHi: base.G(k), slopeLo: base.G1(-k), slope: base.G1(k)}
}

func (m tailed) Name() string { return m.base.Name() + ",tail:" + formatNumber(m.k) }

func (m tailed) G(delta float64) float64 {
	switch {
	case delta > m.k:
		return clamp(m.gHi + float64(m.slope*(delta-m.k)))
	case delta < -m.k:
		return clamp(m.gLo + float64(m.slopeLo*(delta+m.k)))
	}
	return m.base.G(delta)
}

func (m tailed) G1(delta float64) float64 {
	return m.base.G1(math.Max(-m.k, math.Min(m.k, delta)))
}

func (m tailed) G2(delta float64) float64 {
	if math.Abs(delta) > m.k {
		return 0
	}
	return m.base.G2(delta)
}

func (m tailed) F(u float64) float64 { return fBeyond(m.base, m.k, m.slopeLo, m.slope, u) }

func (m tailed) Smooth() bool                    { return m.base.Smooth() }
func (m tailed) EffectiveAlpha() (float64, bool) { return m.base.EffectiveAlpha() }

func (m tailed) Behaviour() string {
	return fmt.Sprintf("%s; weights bounded beyond |δ| = %s", m.base.Behaviour(), formatNumber(m.k))
}

// TailStart returns the |δ| beyond which the weights of d no longer grow, and
// whether there is one: that of a tail modifier, or of Huber.
func TailStart(d Divergence) (k float64, ok bool) {
	switch m := d.(type) {
	case tailed:
		return m.k, true
	case huber:
		return m.k, true
	case tempered:
		if k, ok := TailStart(m.base); ok {
			return k / m.beta, true
		}
	}
	return 0, false
}

// Modifiers returns the k of a tail modifier and the β of a temper modifier of
// d; 0 for one that is not in use (in use they are positive).
func Modifiers(d Divergence) (tail, temper float64) {
	for {
		switch m := d.(type) {
		case tailed:
			tail, d = m.k, m.base
		case tempered:
			temper, d = m.beta, m.base
		default:
			return tail, temper
		}
	}
}
