package metrics_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat"
	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/metrics"
)

func TestRanksShareTies(t *testing.T) {
	got := metrics.Ranks([]float64{5, 1, 5, -2, 5, 1})
	if want := []float64{5, 2.5, 5, 1, 5, 2.5}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestSpearmanByHand: ranks (1, 2.5, 2.5, 4) and (1, 3, 2, 4) have deviations
// (−1.5, 0, 0, 1.5) and (−1.5, 0.5, −0.5, 1.5): 4.5/√(4.5·5).
func TestSpearmanByHand(t *testing.T) {
	got, err := metrics.Spearman([]float64{1, 2, 2, 9}, []float64{0, 7, 3, 1000})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "ρ", got, 4.5/math.Sqrt(22.5), 1e-15)
	for _, c := range []struct{ x, y []float64 }{{nil, nil}, {[]float64{1}, []float64{1}}, {[]float64{3, 3}, []float64{1, 2}}} {
		if got, err := metrics.Spearman(c.x, c.y); err != nil || !math.IsNaN(got) {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	if _, err := metrics.Spearman([]float64{1}, nil); !errors.Is(err, metrics.ErrLength) {
		t.Errorf("%v", err)
	}
	if _, err := metrics.Pearson([]float64{1}, nil); !errors.Is(err, metrics.ErrLength) {
		t.Errorf("%v", err)
	}
}

// TestCorrelationsLikeGonum, which has Pearson's; ranks by counting.
func TestCorrelationsLikeGonum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(3, 40).Draw(t, "n")
		value := rapid.Map(rapid.IntRange(-8, 8), func(i int) float64 { return float64(i) / 3 }) // with ties
		x := rapid.SliceOfN(value, n, n).Draw(t, "x")
		y := rapid.SliceOfN(value, n, n).Draw(t, "y")
		rank := func(v []float64) []float64 {
			out := make([]float64, n)
			for i := range v {
				below, same := 0, 0
				for j := range v {
					if v[j] < v[i] {
						below++
					} else if v[j] == v[i] {
						same++
					}
				}
				out[i] = float64(below) + float64(same+1)/2
			}
			return out
		}
		if slices.Min(x) == slices.Max(x) || slices.Min(y) == slices.Max(y) {
			return
		}
		p, err := metrics.Pearson(x, y)
		if err != nil || math.Abs(p-stat.Correlation(x, y, nil)) > 1e-12 {
			t.Fatalf("Pearson %v, gonum %v, %v", p, stat.Correlation(x, y, nil), err)
		}
		s, err := metrics.Spearman(x, y)
		if err != nil || math.Abs(s-stat.Correlation(rank(x), rank(y), nil)) > 1e-12 {
			t.Fatalf("Spearman %v, gonum %v, %v", s, stat.Correlation(rank(x), rank(y), nil), err)
		}
		// A rising function changes nothing.
		up := make([]float64, n)
		for i := range x {
			up[i] = math.Exp(x[i])
		}
		if again, _ := metrics.Spearman(up, y); math.Abs(again-s) > 1e-12 {
			t.Fatalf("Spearman %v of exp x, %v of x", again, s)
		}
	})
}
