package metrics

import (
	"math"
	"testing"
)

// TestRareConditions: a condition whose probability is below the smallest float64 is
// compared like all others, in the target and in the model.
func TestRareConditions(t *testing.T) {
	c := &conditions{names: []string{"common", "rare", "never"}, of: []int32{0, 0, 1, 1, 2}}
	half := math.Log(0.5)
	even := []float64{half, half, half - 1000, half - 1000, -2000}
	skew := []float64{half, half, math.Log(0.75) - 900, math.Log(0.25) - 900, math.Inf(-1)}
	for i, r := range c.report(even, skew) {
		want := []float64{0, 0.25, 1}[i]
		if !(math.Abs(r.TV-want) < 1e-12) {
			t.Errorf("%s: TV %v; want %v", r.Name, r.TV, want)
		}
	}
	quarter := math.Log(0.25)
	if r := c.report(even, []float64{quarter, quarter, quarter, quarter, -2000})[1]; !(r.TV < 1e-12) {
		t.Errorf("%+v; want no distance: only the condition is more frequent", r)
	}
	for i, r := range c.report(even, even) {
		if r.TV != 0 || r.TargetShare != r.ModelShare {
			t.Errorf("condition %d: %+v; want no distance of a distribution from itself", i, r)
		}
	}
}
