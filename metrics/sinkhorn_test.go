package metrics_test

import (
	"math"
	"testing"

	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/metrics"
)

// assignment is the least mean cost over all pairings, by trying them all.
func assignment(x, y []float64, dim int) float64 {
	n := len(x) / dim
	used, best := make([]bool, n), math.Inf(1)
	var place func(i int, sum float64)
	place = func(i int, sum float64) {
		if i == n {
			best = min(best, sum/float64(n))
			return
		}
		for j := range n {
			if used[j] {
				continue
			}
			c := 0.0
			for k := range dim {
				c += (x[i*dim+k] - y[j*dim+k]) * (x[i*dim+k] - y[j*dim+k])
			}
			used[j] = true
			place(i+1, sum+c)
			used[j] = false
		}
	}
	place(0, 0)
	return best
}

// TestSinkhornBecomesTheAssignment as ε → 0, from above and monotonically.
func TestSinkhornBecomesTheAssignment(t *testing.T) {
	for seed := range uint64(10) {
		rnd := rng.New(seed, rng.Evaluate)
		const n, dim = 6, 2
		x, y := make([]float64, n*dim), make([]float64, n*dim)
		for i := range x {
			x[i], y[i] = rnd.NormFloat64(), 2*rnd.NormFloat64()+1
		}
		want, last := assignment(x, y, dim), math.Inf(1)
		for _, eps := range []float64{10, 1, 0.1, 0.01, 0.003} {
			got, err := metrics.SinkhornDistance(x, y, dim, metrics.SinkhornOptions{Epsilon: eps, Tolerance: 1e-6, MaxSteps: 20_000})
			if err != nil || got.Error > 1e-4 {
				t.Fatalf("seed %d, ε %v: %+v, %v", seed, eps, got, err)
			}
			slack := 1e-5 + 50*got.Error // what is not yet transported costs at most about 50
			if got.Cost < want-slack || got.Cost > last+slack {
				t.Errorf("seed %d, ε %v: cost %v after %v, the best assignment costs %v", seed, eps, got.Cost, last, want)
			}
			last = got.Cost
		}
		// A plan within ε of the optimum may pay ε·log n for its entropy.
		if last > want+0.003*math.Log(n)+0.005 {
			t.Errorf("seed %d: cost %v, the best assignment costs %v", seed, last, want)
		}
	}
}

func TestSinkhornByHand(t *testing.T) {
	o := metrics.SinkhornOptions{Epsilon: 0.01}
	// One point to two: half of it goes to each, whatever ε.
	got, err := metrics.SinkhornDistance([]float64{0, 0}, []float64{3, 4, 0, 1}, 2, o)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "cost", got.Cost, 13, 1e-9)
	// A translated set, and large coordinates that would underflow outside the
	// log domain.
	if got, err = metrics.SinkhornDistance([]float64{0, 1000}, []float64{7, 1007}, 1, o); err != nil {
		t.Fatal(err)
	}
	near(t, "cost", got.Cost, 49, 1e-6)
	// ε → ∞ is the independent plan.
	if got, err = metrics.SinkhornDistance([]float64{0, 1}, []float64{0, 1}, 1, metrics.SinkhornOptions{Epsilon: 1e9}); err != nil {
		t.Fatal(err)
	}
	near(t, "cost", got.Cost, 0.5, 1e-6)
	// A share of the mean cost does not depend on the unit of length.
	x, y := []float64{0, 1, 5}, []float64{2, 2, 9}
	var costs [2]float64
	for i, unit := range []float64{1, 1000} {
		for k := range x {
			x[k], y[k] = x[k]*unit, y[k]*unit
		}
		got, err := metrics.SinkhornDistance(x, y, 1, metrics.SinkhornOptions{Epsilon: 0.05, Relative: true})
		if err != nil {
			t.Fatal(err)
		}
		costs[i] = got.Cost / unit / unit
	}
	near(t, "cost in another unit", costs[1], costs[0], 1e-9)
	if got, err = metrics.SinkhornDistance([]float64{2, 2}, []float64{2}, 1, o); err != nil || got.Cost != 0 || got.Error != 0 {
		t.Errorf("one point: %+v, %v", got, err)
	}
	for _, bad := range []func() error{
		func() error { _, err := metrics.SinkhornDistance(nil, []float64{1}, 1, o); return err },
		func() error {
			_, err := metrics.SinkhornDistance([]float64{1, 2, 3}, []float64{1, 2}, 2, o)
			return err
		},
		func() error {
			_, err := metrics.SinkhornDistance([]float64{1}, []float64{math.NaN()}, 1, o)
			return err
		},
		func() error {
			_, err := metrics.SinkhornDistance([]float64{1}, []float64{1}, 1, metrics.SinkhornOptions{})
			return err
		},
		func() error {
			many := make([]float64, 5000)
			_, err := metrics.SinkhornDistance(many, many, 1, o)
			return err
		},
	} {
		if bad() == nil {
			t.Error("accepted")
		}
	}
}
