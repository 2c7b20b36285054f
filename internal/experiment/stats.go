package experiment

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/driftmesh/driftmesh/internal/runs"
)

// Confidence of every interval.
const Confidence = 0.95

// Interval is a mean with its interval by Student's t, over N independent
// values. With fewer than two the interval is unknown (NaN).
type Interval struct {
	N         int
	Mean      float64
	Low, High float64
	Half      float64 // half of the interval's width
}

// MarshalJSON writes what is unknown as null.
func (i Interval) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"n": i.N, "mean": runs.Float(i.Mean), "low": runs.Float(i.Low), "high": runs.Float(i.High),
	})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (i *Interval) UnmarshalJSON(data []byte) error {
	var v struct {
		N               int
		Mean, Low, High runs.Float
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	*i = Interval{N: v.N, Mean: float64(v.Mean), Low: float64(v.Low), High: float64(v.High), Half: float64(v.High-v.Low) / 2}
	return nil
}

// MeanOf returns the mean of values with its 95 % interval: mean ± t·s/√n,
// where t is the 97.5 % quantile of Student's distribution with n − 1 degrees
// of freedom and s² the unbiased variance.
func MeanOf(values []float64) Interval {
	out := Interval{N: len(values), Mean: math.NaN(), Low: math.NaN(), High: math.NaN(), Half: math.NaN()}
	if out.N == 0 {
		return out
	}
	mean, variance := stat.MeanVariance(values, nil)
	out.Mean = mean
	if out.N < 2 {
		return out
	}
	t := distuv.StudentsT{Sigma: 1, Nu: float64(out.N - 1)}.Quantile(1 - (1-Confidence)/2)
	out.Half = t * math.Sqrt(variance/float64(out.N))
	out.Low, out.High = mean-out.Half, mean+out.Half
	return out
}

// Known says whether the interval is.
func (i Interval) Known() bool { return !math.IsNaN(i.Half) }

// Median of values, of which absent ones (never reached) count as larger than
// any: the middle one, the lower of two. NaN where it is one of those.
func Median(values []float64, absent int) float64 {
	n := len(values) + absent
	if n == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	if at := (n - 1) / 2; at < len(sorted) {
		return sorted[at]
	}
	return math.NaN()
}

// Paired is the comparison of two cells over the seeds that both have.
type Paired struct {
	Metric string `json:"metric"`
	// Diff is the mean of A − B over pairs of equal seeds.
	Diff Interval `json:"difference"`
	// Base is the mean of B over the same seeds.
	Base runs.Float `json:"base"`
	// CensoredA and CensoredB count times that a side did not reach: they are
	// taken as the budget, so that the difference is a bound and no estimate.
	CensoredA int `json:"censored_a,omitempty"`
	CensoredB int `json:"censored_b,omitempty"`
	// Lost counts pairs that are left out because a side diverged: of A, and of B.
	LostA int `json:"diverged_a,omitempty"`
	LostB int `json:"diverged_b,omitempty"`
	// MissingA and MissingB count pairs that are left out because a side has no
	// finite number, such as an infinite divergence, or was not evaluated.
	MissingA int `json:"missing_a,omitempty"`
	MissingB int `json:"missing_b,omitempty"`
	// Higher says that larger values are better.
	Higher  bool    `json:"higher_is_better,omitempty"`
	Margin  float64 `json:"margin_percent"`
	Verdict Verdict `json:"verdict"`
}

// Verdict is what a paired interval says of A beside B.
type Verdict string

// Verdicts, from the interval of A − B alone.
const (
	Better   Verdict = "better"    // the whole interval is on the better side of 0
	NotWorse Verdict = "not worse" // the whole interval is on the better side of the margin
	Worse    Verdict = "worse"     // the whole interval is on the worse side of the margin
	Open     Verdict = "open"      // the interval has the margin inside it, or is unknown

	// Undirected is of a metric of which neither more nor less is better.
	Undirected Verdict = "neither"
)

// judge compares the interval of A − B with a margin in percent of |B|'s mean:
// "not worse" means that A is worse than B by no more than the margin with 95 %
// confidence. If A diverged in more seeds than B, it is worse whatever the rest says.
// A side that lacks numbers where the other has them is not praised for the others.
func (p *Paired) judge() {
	p.Verdict = Open
	switch {
	case p.LostA > p.LostB:
		p.Verdict = Worse
		return
	case !p.Diff.Known():
		return
	}
	low, high := p.Diff.Low, p.Diff.High
	if p.Higher {
		low, high = -high, -low
	}
	margin := math.Abs(float64(p.Base)) * p.Margin / 100
	switch {
	case p.CensoredA == 0 && p.MissingA <= p.MissingB && high < 0:
		p.Verdict = Better
	case p.CensoredA == 0 && p.MissingA <= p.MissingB && high <= margin:
		p.Verdict = NotWorse
	case p.CensoredB == 0 && p.MissingB <= p.MissingA && low > margin:
		p.Verdict = Worse
	}
}

// side is one value of a pair.
type side struct {
	value    float64
	known    bool
	diverged bool
	budget   float64 // of a time; 0 for a metric, and for a time that was never evaluated
	wait     float64 // of a time: updates from it until it was certain
	// unevaluated: nothing of it is known, for the run was not evaluated for it.
	unevaluated bool
}

// unknown says that neither a number nor its absence tells anything.
func (s side) unknown() bool { return s.unevaluated && !s.diverged }

// pairUp compares two lists of sides, seed by seed.
func pairUp(metric string, a, b []side, higher bool, margin float64) Paired {
	p := Paired{Metric: metric, Higher: higher, Margin: margin, Base: runs.Float(math.NaN())}
	var diffs, base []float64
	for i := range a {
		x, y := a[i], b[i]
		if x.diverged {
			p.LostA++
		}
		if y.diverged {
			p.LostB++
		}
		if x.diverged || y.diverged {
			continue
		}
		for s, count := range map[*side]*int{&x: &p.CensoredA, &y: &p.CensoredB} {
			if !s.known && s.budget > 0 {
				s.value, s.known = s.budget, true
				*count++
			}
		}
		if !x.known {
			p.MissingA++
		}
		if !y.known {
			p.MissingB++
		}
		if !x.known || !y.known {
			continue
		}
		diffs = append(diffs, x.value-y.value)
		base = append(base, y.value)
	}
	p.Diff = MeanOf(diffs)
	if len(base) > 0 {
		p.Base = runs.Float(stat.Mean(base, nil))
	}
	p.judge()
	return p
}

// format writes a number with about four significant digits.
func format(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x):
		return "–"
	case x == math.Trunc(x) && a < 1e7:
		return fmt.Sprintf("%.0f", x)
	case a >= 1000:
		return fmt.Sprintf("%.0f", x)
	case a >= 0.001:
		return fmt.Sprintf("%.4g", x)
	}
	return fmt.Sprintf("%.3g", x)
}

// Text writes a mean with its half-width.
func (i Interval) Text() string {
	if i.N == 0 {
		return "–"
	}
	if !i.Known() {
		return format(i.Mean)
	}
	return format(i.Mean) + " ± " + format(roundHalf(i.Half))
}

// bounds writes both ends.
func (i Interval) bounds() string {
	if !i.Known() {
		return "–"
	}
	return "[" + format(i.Low) + ", " + format(i.High) + "]"
}

// roundHalf keeps two significant digits.
func roundHalf(x float64) float64 {
	if x == 0 || math.IsNaN(x) {
		return x
	}
	scale := math.Pow(10, 1-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*scale) / scale
}

// Pairs compares two lists of values of a metric, element by element; NaN is none.
// margin is in percent of the mean of b.
func Pairs(metric string, a, b []float64, higher bool, margin float64) Paired {
	sides := func(values []float64) (out []side) {
		for _, v := range values {
			out = append(out, side{value: v, known: !math.IsNaN(v)})
		}
		return out
	}
	n := min(len(a), len(b))
	return pairUp(metric, sides(a[:n]), sides(b[:n]), higher, margin)
}
