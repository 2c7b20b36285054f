package metrics_test

import (
	"math"
	"testing"

	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/metrics"
)

// TestDrawsFollowTheTarget: χ² of 50,000 draws over 36 cells.
func TestDrawsFollowTheTarget(t *testing.T) {
	e := grid(t, func(c *hypergrid.Config) { c.Dim, c.Height, c.R0 = 2, 6, 0.1 })
	v, err := metrics.NewEvaluator(e, 2)
	if err != nil {
		t.Fatal(err)
	}
	draws, rnd, s := v.Draws(), rng.New(1, rng.Evaluate), e.NewStates(3)
	const n = 50_000
	counts := make([]float64, e.NumObjects())
	for range n {
		object, err := draws.Draw(rnd, s, 2)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Terminal(2) || v.Object(s, 2) != object {
			t.Fatalf("drew %d, the row is %s", object, s.Text(2))
		}
		counts[object]++
	}
	chi2 := 0.0
	for i, lp := range v.LogTarget() {
		want := n * math.Exp(lp)
		chi2 += (counts[i] - want) * (counts[i] - want) / want
	}
	if df := float64(len(counts) - 1); chi2 > df+4*math.Sqrt(2*df) {
		t.Errorf("χ² = %v of %v degrees of freedom", chi2, df)
	}
}
