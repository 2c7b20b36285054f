package paramserver

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/driftmesh/driftmesh/internal/rng"
)

// maxSample is how many values a sample keeps.
const maxSample = 1 << 16

// sample keeps values for their quantiles in bounded memory: all of them up to
// maxSample, and of more a uniform subset of that size (Vitter 1985, algorithm
// R). Its choices depend on the seed and the number of values only, so equal
// runs give equal quantiles.
type sample struct {
	seed   uint64
	values []float64
	seen   int64
	draws  *rand.Rand // nil until there is a choice to make
}

func (s *sample) add(x float64) {
	s.seen++
	if len(s.values) < maxSample {
		s.values = append(s.values, x)
		return
	}
	if s.draws == nil {
		s.draws = rng.New(s.seed, rng.Thin)
	}
	if at := s.draws.Int64N(s.seen); at < maxSample {
		s.values[at] = x
	}
}

// quantiles returns the value at each level; it sorts what is kept.
func (s *sample) quantiles(levels ...float64) []float64 {
	slices.Sort(s.values)
	out := make([]float64, len(levels))
	for i, p := range levels {
		out[i] = quantile(s.values, p)
	}
	return out
}

// reset empties the sample and keeps its memory.
func (s *sample) reset() { s.values, s.seen, s.draws = s.values[:0], 0, nil }

// quantile of sorted values, linearly interpolated; NaN of none.
func quantile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := p * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + float64((at-float64(i))*(sorted[i+1]-sorted[i]))
}
