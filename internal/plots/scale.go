package plots

import (
	"math"
	"strconv"
	"strings"
)

// scale maps values of an axis to [0, 1], linearly or logarithmically.
type scale struct {
	lo, hi float64 // lo < hi; both positive when log
	log    bool
}

// newScale fits a scale to the finite values it is shown. An axis without
// values, or with a single one, gets room around it.
func newScale(a Axis, values ...[]float64) scale {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, vs := range values {
		for _, v := range vs {
			if usable(v, a.Log) {
				lo, hi = min(lo, v), max(hi, v)
			}
		}
	}
	for _, v := range a.Include {
		if usable(v, a.Log) {
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	if a.Least > 0 {
		lo, hi = a.Least, max(hi, 1.5*a.Least)
	}
	switch {
	case lo > hi: // nothing to show
		lo, hi = 0, 1
		if a.Log {
			lo, hi = 0.1, 1
		}
	case a.Log && hi/lo < 1.5:
		lo, hi = lo/1.5, hi*1.5
	case !a.Log && hi-lo <= 1e-12*max(math.Abs(lo), math.Abs(hi)):
		pad := max(math.Abs(hi)/10, 1e-9)
		lo, hi = lo-pad, hi+pad
	case a.Pad && a.Log:
		r := math.Exp(0.04 * (math.Log(hi) - math.Log(lo)))
		lo, hi = max(lo/r, math.SmallestNonzeroFloat64), min(hi*r, math.MaxFloat64)
	case a.Pad:
		pad := 0.04 * (hi - lo)
		if lo < 0 || lo > pad { // a zero baseline stays where it is
			lo -= pad
		}
		hi += pad
	}
	if a.Least > 0 {
		lo = a.Least
	}
	return scale{lo: lo, hi: hi, log: a.Log}
}

// usable says whether a value has a place on an axis.
func usable(v float64, log bool) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (!log || v > 0)
}

// at returns the place of v: 0 at the low end, 1 at the high end.
func (s scale) at(v float64) float64 {
	if s.log {
		return (math.Log(v) - math.Log(s.lo)) / (math.Log(s.hi) - math.Log(s.lo))
	}
	return (v - s.lo) / (s.hi - s.lo)
}

type tick struct {
	value float64
	label string
}

// ticks returns about n labelled ticks inside the scale.
func (s scale) ticks(n int) []tick {
	if s.log && s.hi/s.lo >= 8 {
		return s.decades(n)
	}
	// The next coarser step may leave a single tick, which says nothing about
	// the scale.
	step := niceStep((s.hi - s.lo) / float64(n))
	for (s.hi-s.lo)/step < 2 {
		step = niceStep(step / 2.6) // 5 → 2 → 1 → 0.5
	}
	var out []tick
	for k := math.Ceil(s.lo/step - 1e-9); k*step <= s.hi+1e-9*step; k++ {
		out = append(out, tick{k * step, number(k*step, step)})
	}
	return out
}

// decades returns ticks at powers of ten, at 1-2-5 steps when there are few.
func (s scale) decades(n int) []tick {
	low, high := math.Floor(math.Log10(s.lo)), math.Ceil(math.Log10(s.hi))
	every := max(1, math.Ceil((high-low)/float64(n+2)))
	mantissas := []float64{1}
	if math.Log10(s.hi)-math.Log10(s.lo) <= 2.7 {
		mantissas = []float64{1, 2, 5}
	}
	var out []tick
	for e := low; e <= high; e++ {
		if math.Mod(e, every) != 0 {
			continue
		}
		for _, m := range mantissas {
			v := m * math.Pow(10, e)
			if v >= s.lo*(1-1e-9) && v <= s.hi*(1+1e-9) {
				out = append(out, tick{v, number(v, v)})
			}
		}
	}
	return out
}

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(x float64) float64 {
	base := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 2, 5} {
		if x <= m*base*(1+1e-9) {
			return m * base
		}
	}
	return 10 * base
}

// number writes a tick label: v to the precision of step, with k, M and G for
// thousands, and an exponent for the very small.
func number(v, step float64) string {
	if v == 0 {
		return "0"
	}
	abs := math.Abs(v)
	if abs < 0.0009995 && math.Abs(step) < 0.0009995 {
		e := math.Floor(math.Log10(abs) + 1e-9)
		m := strconv.FormatFloat(v/math.Pow(10, e), 'g', 3, 64)
		return minus(m + "e" + strconv.Itoa(int(e)))
	}
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e4, "k"}} {
		if abs >= unit.size*(1-1e-9) {
			if unit.name == "k" {
				unit.size = 1e3
			}
			return decimals(v/unit.size, step/unit.size) + unit.name
		}
	}
	return decimals(v, step)
}

// decimals writes v with as many decimals as step needs, with a true minus.
func decimals(v, step float64) string {
	d := int(max(0, -math.Floor(math.Log10(math.Abs(step))+1e-9)))
	text := strconv.FormatFloat(v, 'f', d, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return minus(text)
}

// minus writes true minus signs. (Superscripts would be nicer for powers of
// ten, but the fonts lack the raised minus.)
func minus(s string) string { return strings.ReplaceAll(s, "-", "−") }
