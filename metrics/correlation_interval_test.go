package metrics_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/metrics"
)

// TestCorrelationBoundsCover the correlations of the population in about 95 % of samples,
// of normal pairs and of such as test sets have: few rewards, and log-probabilities with
// errors that are skewed.
func TestCorrelationBoundsCover(t *testing.T) {
	const seeds, n = 200, 150
	normal := func(r *rand.Rand) (x, y float64) {
		x = r.NormFloat64()
		return x, 0.8*x + 0.6*r.NormFloat64()
	}
	levels := func(r *rand.Rand) (x, y float64) {
		y = float64(r.IntN(6))
		return y + 2*math.Exp(r.NormFloat64()/2), y
	}
	for name, c := range map[string]struct {
		draw          func(r *rand.Rand) (x, y float64)
		pearson, rank float64 // known of normal pairs: 6/π arcsin(ρ/2)
	}{
		"normal": {normal, 0.8, 6 / math.Pi * math.Asin(0.4)},
		"levels": {levels, math.NaN(), math.NaN()},
	} {
		sample := func(seed uint64, n int) (x, y []float64) {
			r := rand.New(rand.NewPCG(seed, 3))
			for range n {
				a, b := c.draw(r)
				x, y = append(x, a), append(y, b)
			}
			return x, y
		}
		if math.IsNaN(c.pearson) {
			x, y := sample(1<<20, 400_000)
			c.pearson, _ = metrics.Pearson(x, y)
			c.rank, _ = metrics.Spearman(x, y)
		}
		covered, width := [2]int{}, [2]float64{}
		for seed := range uint64(seeds) {
			x, y := sample(seed, n)
			p, s, err := metrics.CorrelationBounds(x, y, 300, rand.New(rand.NewPCG(seed, 4)))
			if err != nil {
				t.Fatal(err)
			}
			for k, b := range []metrics.Bounds{p, s} {
				if width[k] += (b.High - b.Low) / seeds; b.Low <= []float64{c.pearson, c.rank}[k] && []float64{c.pearson, c.rank}[k] <= b.High {
					covered[k]++
				}
			}
		}
		t.Logf("%s: %.4f and %.4f, covered %d of %d, %.3f wide", name, c.pearson, c.rank, covered, seeds, width)
		for k, n := range covered { // Binomial(200, 0.95) is below 178 once in 2,000
			if n < 178 || width[k] > 0.2 {
				t.Errorf("%s, %d: %d of %d intervals of 95 %% contain the correlation; they are %.3f wide", name, k, n, seeds, width[k])
			}
		}
	}
}

// TestCorrelationBoundsAtTheEnds: few, equal or unknown values have no bounds, perfect
// correlation has none on a scale without an end, and equal streams give equal ones.
func TestCorrelationBoundsAtTheEnds(t *testing.T) {
	rnd := func() *rand.Rand { return rand.New(rand.NewPCG(5, 6)) }
	var x, y, swapped []float64
	for i := range 30 {
		x, y = append(x, float64(i)), append(y, float64(i+3*(i%4)))
	}
	swapped = slices.Clone(x)
	swapped[3], swapped[4] = x[4], x[3]
	a, b, err := metrics.CorrelationBounds(x, y, 100, rnd())
	c, d, _ := metrics.CorrelationBounds(x, y, 100, rnd())
	r, _ := metrics.Pearson(x, y)
	if err != nil || a != c || b != d || !(a.Low < r && r < a.High && a.High < 1) {
		t.Errorf("%+v %+v, then %+v %+v of %v, %v", a, b, c, d, r, err)
	}
	unknown := slices.Clone(x)
	unknown[7] = math.NaN()
	for name, c := range map[string][2][]float64{
		"few": {x[:19], y[:19]}, "constant": {x, make([]float64, 30)}, "none": {nil, nil}, "unknown": {unknown, y}, "unknown too": {y, unknown},
		"perfect": {x, x}, "nearly always perfect": {x, swapped},
	} {
		p, s, err := metrics.CorrelationBounds(c[0], c[1], 100, rnd())
		if err != nil || !math.IsNaN(p.Low) || !math.IsNaN(p.High) || !math.IsNaN(s.Low) || !math.IsNaN(s.High) {
			t.Errorf("%s: %+v %+v %v", name, p, s, err)
		}
	}
	if _, _, err := metrics.CorrelationBounds(x, y[:2], 100, rnd()); err == nil {
		t.Error("pairs without a partner")
	}
	if _, _, err := metrics.CorrelationBounds(x, y, 5, rnd()); err == nil {
		t.Error("five replicates")
	}
}
