package experiment

import (
	"math"
	"testing"
)

// TestIntervalByHand: 1, 2, 3, 4, 5 have mean 3 and variance 2.5; the 97.5 %
// quantile of t with 4 degrees of freedom is 2.776445 (any table), so the half
// width is 2.776445 √(2.5/5) = 1.963243.
func TestIntervalByHand(t *testing.T) {
	i := MeanOf([]float64{5, 1, 4, 2, 3})
	if i.Mean != 3 || math.Abs(i.Half-1.963243) > 1e-6 || math.Abs(i.Low-1.036757) > 1e-6 || math.Abs(i.High-4.963243) > 1e-6 {
		t.Errorf("got %+v", i)
	}
	if i := MeanOf([]float64{7}); i.Mean != 7 || i.Known() {
		t.Errorf("of one value: %+v", i)
	}
	if i := MeanOf(nil); i.N != 0 || !math.IsNaN(i.Mean) {
		t.Errorf("of none: %+v", i)
	}
}

func TestMedianCountsWhatWasNeverReached(t *testing.T) {
	for _, c := range []struct {
		values []float64
		absent int
		want   float64
	}{
		{[]float64{3, 1, 2}, 0, 2}, {[]float64{3, 1}, 1, 3}, {[]float64{1}, 2, math.NaN()}, {[]float64{1, 2}, 0, 1}, {nil, 0, math.NaN()},
	} {
		if got := Median(c.values, c.absent); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("median of %v and %d absent is %v, want %v", c.values, c.absent, got, c.want)
		}
	}
}

func known(values ...float64) []side {
	out := make([]side, len(values))
	for i, v := range values {
		out[i] = side{value: v, known: true}
	}
	return out
}

// TestVerdicts: differences 1, 2, 3 have mean 2 and half width
// 4.302653 · 1/√3 = 2.484138.
func TestVerdicts(t *testing.T) {
	diverged := side{diverged: true}
	never := side{budget: 100}
	for _, c := range []struct {
		name   string
		a, b   []side
		higher bool
		margin float64
		want   Verdict
	}{
		{"interval around the margin", known(11, 12, 13), known(10, 10, 10), false, 10, Open},
		{"interval within the margin", known(11, 12, 13), known(10, 10, 10), false, 45, NotWorse},
		{"interval beyond 0", known(9, 9.1, 8.9), known(10, 10, 10), false, 10, Better},
		{"interval beyond the margin", known(12, 12.1, 11.9), known(10, 10, 10), false, 10, Worse},
		{"the same where more is better", known(12, 12.1, 11.9), known(10, 10, 10), true, 10, Better},
		{"worse where more is better", known(8, 8.1, 7.9), known(10, 10, 10), true, 10, Worse},
		{"one pair", known(1), known(5), false, 10, Open},
		{"more diverged", append(known(1, 1), diverged), known(5, 5, 5), false, 10, Worse},
		{"the baseline diverged", known(1, 1.1, 1), append(known(5, 5), diverged), false, 10, Better},
		{"a time that B never reached", append(known(10, 11), side{value: 12, known: true}), []side{never, never, never}, false, 10, Better},
		{"a time that A never reached is no gain", append(known(10, 11, 12), never), []side{never, never, never, never}, false, 10, Open},
		{"neither reached", []side{never, never, never}, []side{never, never, never}, false, 10, Open},
		{"A never reached", []side{never, never, {budget: 101}}, known(10, 11, 12), false, 10, Worse},
	} {
		if got := pairUp("x", c.a, c.b, c.higher, c.margin); got.Verdict != c.want {
			t.Errorf("%s: %s, want %s (%+v)", c.name, got.Verdict, c.want, got)
		}
	}
	p := pairUp("x", known(11, 12, 13), known(10, 10, 10), false, 10)
	if p.Diff.Mean != 2 || math.Abs(p.Diff.Half-2.484138) > 1e-6 || p.Base != 10 {
		t.Errorf("got %+v", p)
	}
}

func TestTimesAreTheFirstOfSeveral(t *testing.T) {
	row := func(version, tv float64) Point {
		return Point{Updates: version, Values: map[string]float64{"tv": tv, "limit": 0.05}}
	}
	points := []Point{row(10, 0.9), row(20, 0.04), row(30, 0.06), row(40, 0.05), {Updates: 45, Values: map[string]float64{}}, row(50, 0.01), row(60, 0.02), row(70, 0.9)}
	for _, c := range []struct {
		when string
		runs int
		want float64
	}{
		{"tv <= 0.05", 1, 20}, {"tv <= 0.05", 2, 40}, {"tv <= 0.05", 3, 40}, {"tv <= 0.05", 4, 0}, {"tv < limit", 2, 50}, {"tv <= limit and tv > 0.01", 1, 20}, {"tv >= 0.9", 1, 10}, {"kl <= 3", 1, 0},
	} {
		got, ok := Time{When: c.when, Runs: c.runs}.first(points)
		if got != c.want || ok != (c.want > 0) {
			t.Errorf("%s, %d times: %v %v, want %v", c.when, c.runs, got, ok, c.want)
		}
	}
	for _, bad := range []string{"", "tv", "tv = 3", "tv <= ", "tv <= 0.05 or kl < 1", "tv <= 0.05 and"} {
		if _, err := parseCondition(bad); err == nil {
			t.Errorf("%q is a condition", bad)
		}
	}
}
