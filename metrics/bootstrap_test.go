package metrics_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/metrics"
)

// tally counts n draws from log-probabilities.
func tally(logP []float64, n int, rnd *rand.Rand) []int64 {
	cum, total := make([]float64, len(logP)), 0.0
	for i, lp := range logP {
		total += math.Exp(lp)
		cum[i] = total
	}
	counts := make([]int64, len(logP))
	for range n {
		u, x := rnd.Float64()*total, 0
		for x < len(cum)-1 && cum[x] <= u {
			x++
		}
		counts[x]++
	}
	return counts
}

// intervals are those of counts, and intervalled what they are to contain.
func intervals(c metrics.Counted) [6]metrics.Interval {
	return [6]metrics.Interval{c.TV, c.L1, c.JSD, c.ReverseKL, c.Hellinger, c.Chi2Reverse}
}

func intervalled(d metrics.Distances) [6]float64 {
	return [6]float64{d.TV, d.L1, d.JSD, d.ReverseKL, d.Hellinger, d.Chi2Reverse}
}

// TestIntervalsCover: samples of the uniform policy against a hypergrid's
// target, over many seeds. The bias correction brings the mean to the exact
// distance, and the intervals contain it about as often as they promise.
func TestIntervalsCover(t *testing.T) {
	e := grid(t, func(c *hypergrid.Config) { c.Dim, c.Height, c.R0 = 2, 6, 0.1 })
	target, _ := envs.Target(e)
	model, err := envs.Terminating(e, envs.Uniform(e))
	if err != nil {
		t.Fatal(err)
	}
	exact, err := metrics.Compare(target, model)
	if err != nil {
		t.Fatal(err)
	}
	const seeds, n = 200, 2000
	want := intervalled(exact)
	covered, sum, squares, plain := [6]int{}, [6]float64{}, [6]float64{}, [6]float64{}
	for seed := range uint64(seeds) {
		rnd := rng.New(seed, rng.Evaluate)
		got, err := metrics.CompareCounts(target, tally(model, n, rnd), 200, rnd)
		if err != nil {
			t.Fatal(err)
		}
		for k, i := range intervals(got) {
			if i.Low <= want[k] && want[k] <= i.High {
				covered[k]++
			}
			if !(i.Low <= i.Value && i.Value <= i.High) {
				t.Errorf("seed %d: %+v", seed, i)
			}
			sum[k] += i.Value / seeds
			plain[k] += i.Plain / seeds
			squares[k] += i.Value * i.Value / seeds
		}
	}
	for k, w := range want {
		se := math.Sqrt((squares[k] - sum[k]*sum[k]) / seeds)
		t.Logf("distance %d: exact %.5f, mean %.5f ± %.5f, plain %.5f, covered %d of %d", k, w, sum[k], se, plain[k], covered[k], seeds)
		if math.Abs(sum[k]-w) > 4*se+0.002*w {
			t.Errorf("distance %d: mean %v ± %v, exact %v", k, sum[k], se, w)
		}
		if math.Abs(sum[k]-w) > math.Abs(plain[k]-w) {
			t.Errorf("distance %d: the correction makes %v of %v, exact %v", k, sum[k], plain[k], w)
		}
		// Binomial(200, 0.95) is below 178 once in 10,000.
		if covered[k] < 178 {
			t.Errorf("distance %d: %d of %d intervals of 95 %% contain the exact value", k, covered[k], seeds)
		}
	}
}

// TestIntervalsCoverWhenSamplesAreFew: with fewer samples than objects, or a few for
// each, frequencies are far from any distribution. The intervals are wide then, and
// still contain the exact value.
func TestIntervalsCoverWhenSamplesAreFew(t *testing.T) {
	const objects, seeds = 256, 100
	for _, n := range []int{16, 64, 256, 1280, 5120} {
		covered, width := [6]int{}, 0.0
		for seed := range uint64(seeds) {
			rnd := rng.New(seed, rng.Evaluate)
			target, model := make([]float64, objects), make([]float64, objects)
			for i := range target {
				target[i] = rnd.NormFloat64()
				model[i] = target[i] + rnd.NormFloat64()/2
			}
			envs.Normalise(target)
			envs.Normalise(model)
			exact, err := metrics.Compare(target, model)
			if err != nil {
				t.Fatal(err)
			}
			got, err := metrics.CompareCounts(target, tally(model, n, rnd), 100, rnd)
			if err != nil {
				t.Fatal(err)
			}
			for k, want := range intervalled(exact) {
				i := intervals(got)[k]
				if i.Low <= want && want <= i.High {
					covered[k]++
				}
				if !(0 <= i.Low && i.Low <= i.Value && i.Value <= i.High) {
					t.Errorf("seed %d: %+v", seed, i)
				}
			}
			width += (got.TV.High - got.TV.Low) / seeds
		}
		t.Logf("%d samples: covered %d of %d, TV within %.3f", n, covered, seeds, width)
		for k, c := range covered { // Binomial(100, 0.95) is below 86 once in 10,000
			if c < 86 {
				t.Errorf("%d samples, distance %d: %d of %d intervals of 95 %% contain the exact value", n, k, c, seeds)
			}
		}
	}
}

// TestCountsOfTheTarget itself: nothing is claimed beyond the floor.
func TestCountsOfTheTarget(t *testing.T) {
	e := grid(t, func(c *hypergrid.Config) { c.Dim, c.R0 = 2, 0.1 })
	target, _ := envs.Target(e)
	rnd := rng.New(1, rng.Evaluate)
	got, err := metrics.CompareCounts(target, tally(target, 5000, rnd), 200, rnd)
	if err != nil {
		t.Fatal(err)
	}
	if got.TV.Low > 0.01 || got.TV.Value > got.Floor || math.Abs(got.TV.Plain-got.Floor) > 0.3*got.Floor {
		t.Errorf("%+v", got)
	}
}

func TestCompareCountsFaults(t *testing.T) {
	rnd := rng.New(1, rng.Evaluate)
	if _, err := metrics.CompareCounts(logs(0.5, 0.5), []int64{1}, 100, rnd); !errors.Is(err, metrics.ErrLength) {
		t.Errorf("lengths: %v", err)
	}
	if _, err := metrics.CompareCounts(logs(0.5, 0.5), []int64{0, 0}, 100, rnd); err == nil {
		t.Error("no samples are accepted")
	}
	if _, err := metrics.CompareCounts(logs(0.5, 0.5), []int64{1, 1}, 3, rnd); err == nil {
		t.Error("three replicates are accepted")
	}
	got, err := metrics.CompareCounts(logs(1, 0), []int64{1, 1}, 100, rnd)
	if err != nil || !math.IsInf(got.ReverseKL.Plain, 1) || got.TV.Plain != 0.5 {
		t.Errorf("an impossible object: %+v, %v", got, err)
	}
	// An object that cannot be, and that only one half of the samples may hold.
	some, err := metrics.CompareCounts(logs(0.5, 0.5, 0, 0), []int64{20, 30, 1, 2}, 100, rnd)
	for k, i := range intervals(some) {
		if k != 3 && k != 5 && !(0 <= i.Low && i.Low <= i.Value && i.Value <= i.High) || err != nil {
			t.Errorf("distance %d with an impossible object: %+v, %v", k, i, err)
		}
	}
	if text, err := json.Marshal(got); err != nil || !strings.Contains(string(text), `"reverse_kl":{"plain":null`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestPlainIsTheDistance of the frequencies, as Compare has it.
func TestPlainIsTheDistance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := rapid.SliceOfN(rapid.Int64Range(0, 20), 2, 8).Draw(t, "counts")
		counts[0]++
		target := rapid.SliceOfN(rapid.Float64Range(-5, 5), len(counts), len(counts)).Draw(t, "target")
		envs.Normalise(target)
		n := 0.0
		for _, c := range counts {
			n += float64(c)
		}
		model := make([]float64, len(counts))
		for i, c := range counts {
			model[i] = math.Log(float64(c) / n)
		}
		want, err := metrics.Compare(target, model)
		if err != nil {
			t.Fatal(err)
		}
		got, err := metrics.CompareCounts(target, counts, 20, rng.New(1, rng.Evaluate))
		if err != nil {
			t.Fatal(err)
		}
		for what, pair := range map[string][2]float64{
			"TV": {got.TV.Plain, want.TV}, "L1": {got.L1.Plain, want.L1},
			"JSD": {got.JSD.Plain, want.JSD}, "KL": {got.ReverseKL.Plain, want.ReverseKL},
		} {
			if math.Abs(pair[0]-pair[1]) > 1e-12*(1+pair[1]) {
				t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
			}
		}
	})
}
