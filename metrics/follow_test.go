package metrics_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/metrics"
)

// TestFollow by hand, and where it is not defined.
func TestFollow(t *testing.T) {
	inf := math.Inf(-1)
	for name, c := range map[string]struct {
		logQ, logR        []float64
		pearson, spearman float64
		json              string
	}{
		"line":     {[]float64{-3, -2, -1}, []float64{1, 3, 5}, 1, 1, ``},
		"falling":  {[]float64{-1, -2, -3}, []float64{1, 3, 5}, -1, -1, ``},
		"one away": {[]float64{inf, -2, -1, -3}, []float64{0, 1, 3, 2}, math.NaN(), 0.8, ``},
		// Ranks 1.5, 1.5, 3, 4 and 1, 2, 4, 3: deviations (−1, −1, .5, 1.5) and (−1.5, −.5, 1.5, .5).
		"two away": {[]float64{inf, inf, -2, -1}, []float64{0, 1, 3, 2}, math.NaN(), 3.5 / math.Sqrt(4.5*5), ``},
		"rewards":  {[]float64{-1, -2}, []float64{4, 4}, math.NaN(), math.NaN(), `{"pearson":null,"spearman":null,"objects":2,"unreachable":0,"undefined":"all objects have the same reward"}`},
		"model":    {[]float64{-1, -1}, []float64{4, 5}, math.NaN(), math.NaN(), `{"pearson":null,"spearman":null,"objects":2,"unreachable":0,"undefined":"all objects have the same probability"}`},
		"single":   {[]float64{0}, []float64{4}, math.NaN(), math.NaN(), `{"pearson":null,"spearman":null,"objects":1,"unreachable":0,"undefined":"there are fewer than two objects"}`},
	} {
		got, err := metrics.Follow(c.logQ, c.logR)
		same := func(a, b float64) bool { return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-12 }
		if err != nil || !same(got.Pearson, c.pearson) || !same(got.Spearman, c.spearman) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if defined := !math.IsNaN(got.Pearson) && !math.IsNaN(got.Spearman); defined != (got.Undefined == "") {
			t.Errorf("%s: %+v", name, got)
		}
		if text, err := json.Marshal(got); err != nil || c.json != "" && string(text) != c.json {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
	if _, err := metrics.Follow([]float64{1}, nil); !errors.Is(err, metrics.ErrLength) {
		t.Error(err)
	}
}

// TestReportFollows: the exact evaluation has the correlations over all objects, with
// the reward to the target's exponent or not, which correlations do not see; the target
// itself follows perfectly, and a policy that never stops in the origin leaves it out.
func TestReportFollows(t *testing.T) {
	env := grid(t, func(c *hypergrid.Config) { c.Dim, c.Height, c.Reward = 2, 6, hypergrid.Cosine })
	e := env.(envs.Enumerable)
	for _, exponent := range []float64{1, 0.3, 0} {
		v, err := metrics.NewEvaluator(env, exponent)
		if err != nil {
			t.Fatal(err)
		}
		logQ, err := envs.Terminating(e, envs.Uniform(e))
		if err != nil {
			t.Fatal(err)
		}
		logR := make([]float64, e.NumObjects())
		e.LogRewards(logR)
		want, err := metrics.Follow(logQ, logR)
		if err != nil || math.IsNaN(want.Pearson) {
			t.Fatal(want, err)
		}
		for range 2 { // ranks of rewards are kept
			r, err := v.Report(logQ)
			if err != nil {
				t.Fatal(err)
			}
			got := r.Correlation
			if exponent == 0 {
				if got.Undefined != "all objects have the same reward" || !math.IsNaN(got.Spearman) {
					t.Errorf("a flat target: %+v", got)
				}
				continue
			}
			near(t, "Pearson", got.Pearson, want.Pearson, 1e-9)
			near(t, "Spearman", got.Spearman, want.Spearman, 1e-9)
		}
		if exponent == 0 {
			continue
		}
		r, err := v.Report(v.LogTarget())
		if err != nil {
			t.Fatal(err)
		}
		near(t, "Pearson of the target", r.Correlation.Pearson, 1, 1e-12)
		near(t, "Spearman of the target", r.Correlation.Spearman, 1, 1e-12)
	}
	r, err := metrics.Exact(env, func(first int, out []float32) error {
		if err := envs.Uniform(e)(first, out); err != nil {
			return err
		}
		if first == 0 {
			out[0], out[1], out[2] = float32(-math.Ln2), float32(-math.Ln2), float32(math.Inf(-1))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Correlation; c.Unreachable != 1 || !math.IsNaN(c.Pearson) || math.IsNaN(c.Spearman) || c.Undefined == "" {
		t.Errorf("%+v", c)
	}
}
