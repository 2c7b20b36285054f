package hypergrid

import "math"

// zone places a coordinate for the standard reward. Zones nest: the band lies
// in the outer part, so a cell earns what the innermost of its zones earns.
type zone uint8

const (
	inner zone = iota // a ≤ 0.25
	outer             // 0.25 < a, but not in the band
	band              // 0.3 < a < 0.4
	zones
)

// zoneOf places coordinate x of a grid of height m+1, a = |x/m − 1/2|.
//
// The comparisons are made in integers, so no rounding decides them, with one
// exception that is a decision: x/m = 4/5, which lies exactly on the border
// a = 0.3 of the band, is inside. Published rewards and our reference values
// evaluate a in binary64, where 0.8 − 0.5 comes out above 0.3 (and 0.5 − 0.2
// does not), and follow it in the heights where m is a multiple of 5: 16 has
// three band coordinates, 2, 12 and 13. All other borders (a = 0.25, 0.4, and
// 0.3 from below) are outside in binary64 as in exact arithmetic.
func zoneOf(x, m int) zone {
	lower := m < 10*x && 10*x < 2*m    // 1/10 < x/m < 1/5
	upper := 8*m <= 10*x && 10*x < 9*m // 4/5 ≤ x/m < 9/10
	switch {
	case lower || upper:
		return band
	case 4*x < m || 3*m < 4*x:
		return outer
	}
	return inner
}

// deceptiveZoneOf is zoneOf for the deceptive reward: the inner zone is a ≤ 0.1, and
// all borders are where exact arithmetic puts them, outside the band (torchgfn keeps
// off them by 1e-12).
func deceptiveZoneOf(x, m int) zone {
	d := 2*x - m
	if d < 0 {
		d = -d
	}
	switch { // a = d/2m
	case 5*d <= m:
		return inner
	case 3*m < 5*d && 5*d < 4*m:
		return band
	}
	return outer
}

// sparseZoneOf has the places of the sparse reward's targets: 1 is outer, m−1 band.
func sparseZoneOf(x, m int) zone {
	switch x {
	case m - 1:
		return band
	case 1:
		return outer
	}
	return inner
}

// cosineFactor is (cos(50·a) + 1)·φ(5·a), the factor of coordinate x in a grid
// of height m+1. It is never negative.
func cosineFactor(x, m int) float64 {
	d := 2*x - m
	if d < 0 {
		d = -d
	}
	a := float64(d) / float64(2*m) // |x/m − 1/2| with one rounding, so mirrored cells are equal
	t := 5 * a
	density := math.Exp(-t*t/2) / math.Sqrt(2*math.Pi)
	return (math.Cos(50*a) + 1) * density
}

// cornerFactor is exp(−(|u| − 0.75)²/(2·0.05)), u = 2x/m − 1.
func cornerFactor(x, m int) float64 {
	d := 2*x - m
	if d < 0 {
		d = -d
	}
	off := float64(d)/float64(m) - 0.75
	return math.Exp(-off * off / (2 * 0.05))
}

// rewards holds what LogReward and Facts need of a Config.
type rewards struct {
	c Config
	// standard, deceptive and sparse: the zone of every coordinate value and log R^β
	// by the lowest zone among a cell's coordinates (sparse: see logReward).
	zone    []zone
	logR    [zones]float64
	members [zones]int // coordinate values in the zone
	// cosine and corner: the factor of every coordinate value.
	factor []float64
}

func newRewards(c Config) rewards {
	r := rewards{c: c}
	m := c.Height - 1
	if factor := map[string]func(x, m int) float64{Cosine: cosineFactor, Corner: cornerFactor}[c.Reward]; factor != nil {
		r.factor = make([]float64, c.Height)
		for x := range r.factor {
			r.factor[x] = factor(x, m)
		}
		return r
	}
	var place func(x, m int) zone
	var worth [zones]float64 // from the inner zone to the band
	switch c.Reward {
	case Deceptive:
		place, worth = deceptiveZoneOf, [zones]float64{c.R0 + c.R1, c.R0, c.R0 + c.R2}
	case Sparse:
		place, worth = sparseZoneOf, [zones]float64{c.R0, c.R0 + c.R1, c.R0 + c.R1}
	default:
		place, worth = zoneOf, [zones]float64{c.R0, c.R0 + c.R1, c.R0 + c.R1 + c.R2}
	}
	r.zone = make([]zone, c.Height)
	for x := range r.zone {
		r.zone[x] = place(x, m)
		r.members[r.zone[x]]++
	}
	for z, v := range worth {
		r.logR[z] = c.Exponent * math.Log(v)
	}
	return r
}

// logReward is log R^β of a cell.
func (r *rewards) logReward(x []int32) float64 {
	if r.factor != nil {
		p := 1.0
		for _, v := range x {
			p *= r.factor[v]
		}
		return r.product(p)
	}
	lowest, highest := band, inner
	for _, v := range x {
		lowest, highest = min(lowest, r.zone[v]), max(highest, r.zone[v])
	}
	if r.c.Reward == Sparse && highest == outer {
		return r.logR[inner] // all ones are no target
	}
	return r.logR[lowest]
}

// product is log R^β of a cell with that product of factors. The conversion
// forbids a fused multiply-add, whose result would depend on the machine.
func (r *rewards) product(product float64) float64 {
	return r.c.Exponent * math.Log(float64(r.c.R1*product)+r.c.R0)
}
