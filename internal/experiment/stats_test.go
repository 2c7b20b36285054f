package experiment

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/driftmesh/driftmesh/internal/plots"
	"github.com/driftmesh/driftmesh/internal/runs"
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
	// A number that is not finite, such as a KL divergence without bound, is nothing to
	// leave out when a cell is praised.
	none := side{}
	for _, c := range []struct {
		a, b []side
		want Verdict
	}{
		{append(known(1, 1.1, 1), none, none), known(5, 5, 5, 5, 5), Open},
		{known(5, 5, 5.1, 5, 5), append(known(1, 1, 1), none, none), Open},
		{append(known(1, 1.1, 1), none), append(known(5, 5, 5), none), Better},
		{known(1, 1.1, 1, 1), append(known(5, 5, 5), none), Better},
		{append(known(9, 9.1, 9), none), known(5, 5, 5, 5), Worse},
	} {
		got := pairUp("kl", c.a, c.b, false, 10)
		if got.Verdict != c.want || got.Diff.N != 3 {
			t.Errorf("%v beside %v: %s of %d pairs, want %s", c.a, c.b, got.Verdict, got.Diff.N, c.want)
		}
	}
	if p := pairUp("kl", append(known(1, 1.1, 1), none, none), known(5, 5, 5, 5, 5), false, 10); p.Text() != "open; no number 2 : 0" {
		t.Errorf("got %q", p.Text())
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

// TestWhatIsNotFiniteBreaksARun: a row whose metric is null was evaluated, and met no
// condition; one without the metric was not evaluated.
func TestWhatIsNotFiniteBreaksARun(t *testing.T) {
	dir := t.TempDir()
	text := `{"version": 1, "kl": 0.01}
{"version": 2, "kl": null}
{"version": 3, "kl": 0.01}
{"version": 4}
{"version": 5, "kl": 0.02, "lag": {"min": 0}, "delta_q": [0, null]}
{"version": 6, "kl": 0.03}
`
	if err := os.WriteFile(filepath.Join(dir, runs.MetricsFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	points, err := readPoints(dir)
	if err != nil || len(points) != 6 {
		t.Fatalf("%d points, %v", len(points), err)
	}
	if at, ok := (Time{When: "kl <= 0.05", Runs: 3}).first(points); !ok || at != 3 {
		t.Errorf("reached: %v, at %v; want at 3", ok, at)
	}
	// So it is with what is derived of a metric.
	text = `{"version": 1, "log_z": 3, "log_z_exact": 3}
{"version": 2, "log_z": null, "log_z_exact": 3}
{"version": 3, "log_z": 3.01, "log_z_exact": 3}
`
	if err := os.WriteFile(filepath.Join(dir, runs.MetricsFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if points, err = readPoints(dir); err != nil {
		t.Fatal(err)
	}
	if at, ok := (Time{When: "log_z_error <= 0.1", Runs: 2}).first(points); ok {
		t.Errorf("reached at %v", at)
	}
}

// TestSummaryCountsNumbers: a mean of some of the seeds says so.
func TestSummaryCountsNumbers(t *testing.T) {
	p := &Part{Name: "p", Kind: Train, Metrics: []string{"kl"}}
	r := &Results{}
	for seed, kl := range []float64{1, 2, math.Inf(1)} {
		rec := &Record{Part: "p", Cell: "c", Seed: uint64(seed), Status: Finished, Values: map[string]float64{}}
		if !math.IsInf(kl, 1) {
			rec.Values["kl"] = kl
		}
		r.Records = append(r.Records, rec)
	}
	r.Records = append(r.Records, &Record{Part: "p", Cell: "c", Seed: 3, Status: Diverged})
	if got := r.summarise(p, "c", "kl").text(); got != "1.5 ± 6.4 (2 of 3)" {
		t.Errorf("got %q", got)
	}
}

// TestBandsAreTheIntervals: on a linear axis a band is the whole interval, also of a
// quantity that happened to be above 0 in every seed.
func TestBandsAreTheIntervals(t *testing.T) {
	p := &Part{Name: "p", Kind: Train, Seeds: []uint64{0, 1, 2}, Figures: []string{"elbo"}, Cells: []*Cell{{Part: "p", Name: "c"}}}
	r := &Results{}
	for seed, elbo := range []float64{0.1, 0.2, 0.3} {
		r.Records = append(r.Records, &Record{Part: "p", Cell: "c", Seed: uint64(seed), Status: Finished,
			Points: []Point{{Updates: 10, Values: map[string]float64{"elbo": elbo}}}})
	}
	want := MeanOf([]float64{0.1, 0.2, 0.3})
	band := r.curveFigures(p, panel{cells: p.Cells}, "elbo")[0].plot.(plots.Chart).Series[0]
	if band.Y[0] != want.Low || band.Upper[0] != want.High {
		t.Errorf("the band is from %v to %v, the interval from %v to %v", band.Y[0], band.Upper[0], want.Low, want.High)
	}
}

// TestEstimatesHaveNoBetterSide: a larger log Z is no better or worse than a smaller
// one, its distance from the exact one is; unless the study says so.
func TestEstimatesHaveNoBetterSide(t *testing.T) {
	cell := func(metric string, values ...float64) (out []*Record) {
		for seed, v := range values {
			out = append(out, &Record{Seed: uint64(seed), Status: Finished, Values: map[string]float64{metric: v}})
		}
		return out
	}
	for _, c := range []struct {
		part   Part
		metric string
		want   Verdict
	}{
		{Part{}, "eval_log_z", Undirected}, {Part{}, "log_z", Undirected}, {Part{}, "eval_log_z_abs_error", Worse},
		{Part{Higher: []string{"eval_log_z"}}, "eval_log_z", Better}, {Part{}, "eval_elbo", Better}, {Part{}, "eval_eubo", Worse},
	} {
		p := c.part.pair(c.metric, false, cell(c.metric, 32, 32.1, 31.9), cell(c.metric, 28, 28, 28), 10)
		if p.Verdict != c.want {
			t.Errorf("%s, higher %v: %s, want %s", c.metric, c.part.Higher, p.Verdict, c.want)
		}
	}
}

// TestCorrelationsAreBetterHigh: those with the exact distribution, too.
func TestCorrelationsAreBetterHigh(t *testing.T) {
	p := &Part{Name: "x", Kind: Train}
	for _, name := range []string{"exact_pearson", "exact_spearman", "test_pearson", "test_spearman"} {
		records := func(values ...float64) (out []*Record) {
			for i, v := range values {
				out = append(out, &Record{Seed: uint64(i), Status: Finished, Values: map[string]float64{name: v}})
			}
			return out
		}
		if got := p.pair(name, false, records(0.9, 0.91, 0.92), records(0.1, 0.11, 0.13), 10); got.Verdict != Better {
			t.Errorf("a higher %s is %s", name, got.Verdict)
		}
	}
}
