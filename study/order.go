package study

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/experiment"
)

const (
	tiny  = 1e-5 // of a deterministic mass: above what minimisation leaves open
	slack = 2e-3 // of a trained mass: what the last learning rate leaves of noise
)

// certain is a value without an interval, such as one of quadrature.
func certain(x float64) Estimate { return Estimate{Mean: x, Low: x, High: x, N: 1} }

// trend is how values go along an axis: the largest rise and the largest fall from
// any value to any later one, so that small steps add up.
type trend struct {
	rise, fall      float64
	rises, falls    string // from where to where
	values, unknown int    // how many there are, and of how many nothing is known
}

// along compares every value with every later one. A difference counts if it is above
// slack and beyond both intervals: √(h₁² + h₂²), of their half-widths. Cells share
// their seeds, so the interval of the difference itself is no wider than that as long
// as equal seeds do alike. Values that are not known are left out, and counted.
func along(names []string, values []Estimate, slack float64) trend {
	t := trend{values: len(values)}
	for j, b := range values {
		if math.IsNaN(b.Mean) {
			t.unknown++
		}
		for i, a := range values[:j] {
			d := b.Mean - a.Mean
			if !(math.Abs(d) > max(slack, math.Hypot(a.High-a.Mean, b.High-b.Mean))) {
				continue
			}
			where := fmt.Sprintf("from %s to %s", names[i], names[j])
			if d > t.rise {
				t.rise, t.rises = d, where
			}
			if -d > t.fall {
				t.fall, t.falls = -d, where
			}
		}
	}
	return t
}

func (t trend) mixed() bool { return t.rise > 0 && t.fall > 0 }

// say puts the trend into words.
func (t trend) say(what string) string {
	if t.values-t.unknown < 2 && t.unknown > 0 {
		return fmt.Sprintf("%s is unknown: so are %d of %d values", what, t.unknown, t.values)
	}
	out := what
	switch {
	case t.rise == 0 && t.fall == 0:
		out += " stays the same"
	case t.mixed():
		out += fmt.Sprintf(" is mixed: it rises by %.4f (%s) and falls by %.4f (%s)", t.rise, t.rises, t.fall, t.falls)
	case t.rise > 0:
		out += fmt.Sprintf(" rises with alpha, by %.4f in all: the order is reversed", t.rise)
	default:
		out += fmt.Sprintf(" falls with alpha, by %.4f in all: the order holds", t.fall)
	}
	switch {
	case t.unknown == 1:
		out += fmt.Sprintf("; 1 of %d values is unknown", t.values)
	case t.unknown > 1:
		out += fmt.Sprintf("; %d of %d values are unknown", t.unknown, t.values)
	}
	return out
}

// sweep is what the rows of a table have at one setting, along alpha.
type sweep struct {
	where  string
	alphas []string
	fits   []Estimate // by quadrature
	rests  []float64  // where training from its start would rest; NaN where that is not known
	means  []Estimate // trained
	seeds  bool       // whether some cell has several
}

// sweeps reads a table back, group by group of rows that are equal in the given
// columns. A table that was stored has float64, string and nil in its cells.
func sweeps(t *experiment.Table, name func(row map[string]any) string) []*sweep {
	var out []*sweep
	for _, line := range t.Rows {
		row := map[string]any{}
		for i, c := range t.Columns {
			row[c] = line[i]
		}
		at := func(column string) float64 {
			if x, ok := row[column].(float64); ok {
				return x
			}
			return math.NaN()
		}
		where := name(row)
		if len(out) == 0 || out[len(out)-1].where != where {
			out = append(out, &sweep{where: where})
		}
		s := out[len(out)-1]
		s.alphas = append(s.alphas, fmt.Sprint(row["alpha"]))
		s.fits = append(s.fits, certain(at("fit_mass")))
		s.rests = append(s.rests, at("rest_mass"))
		trained := Estimate{Mean: at("trained_mass"), Low: at("low"), High: at("high"), N: int(max(at("seeds"), 0))}
		if trained.N < 2 {
			trained.Low, trained.High = math.Inf(-1), math.Inf(1)
		}
		s.means, s.seeds = append(s.means, trained), s.seeds || trained.N > 1
	}
	return out
}

// gap is the largest distance of a trained mass from the computed ones that training
// may come to: it may stay in a minimum that is not the lowest.
func (s *sweep) gap() float64 {
	out := 0.0
	for i, m := range s.means {
		near := math.Abs(m.Mean - s.fits[i].Mean)
		if away := math.Abs(m.Mean - s.rests[i]); away == away {
			near = min(near, away)
		}
		if near == near {
			out = max(out, near)
		}
	}
	return out
}
