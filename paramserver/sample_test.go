package paramserver

import (
	"math"
	"slices"
	"testing"
)

func TestSampleIsExactUntilItIsFull(t *testing.T) {
	s := sample{seed: 7}
	for i := range maxSample {
		s.add(float64((i * 40503) % maxSample)) // all of 0..maxSample-1, in disorder
	}
	for p, want := range map[float64]float64{0: 0, 0.25: 16383.75, 0.5: 32767.5, 1: maxSample - 1} {
		if got := s.quantiles(p)[0]; got != want {
			t.Errorf("quantile %v is %v, want %v", p, got, want)
		}
	}
	if s.draws != nil {
		t.Error("there was a choice to make")
	}
	s.reset()
	if q := s.quantiles(0.5); !math.IsNaN(q[0]) {
		t.Errorf("the median of nothing is %v", q[0])
	}
}

// TestSampleIsBoundedUniformAndRepeatable, also after a reset. The error of a
// rank is about 1/√65,536 = 0.4 % for one standard deviation.
func TestSampleIsBoundedUniformAndRepeatable(t *testing.T) {
	const n = 5 * maxSample
	levels := []float64{0.05, 0.25, 0.5, 0.75, 0.95}
	a, b, other := sample{seed: 7}, sample{seed: 7}, sample{seed: 8}
	fill := func(s *sample) []float64 {
		for i := range n { // rising: what comes late is not forgotten, nor is what came early
			s.add(float64(i))
		}
		if len(s.values) != maxSample {
			t.Fatalf("%d values are kept", len(s.values))
		}
		return s.quantiles(levels...)
	}
	b.add(1e9)
	b.reset()
	first := fill(&a)
	for i, p := range levels {
		if math.Abs(first[i]/n-p) > 0.015 {
			t.Errorf("quantile %v of %d rising values is %v", p, n, first[i])
		}
	}
	if !slices.Equal(first, fill(&b)) {
		t.Error("equal seeds give other quantiles")
	}
	if slices.Equal(first, fill(&other)) {
		t.Error("another seed keeps the same values")
	}
}
