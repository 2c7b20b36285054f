package paramserver

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/policy"
)

// moments asks for P_B of the distinct states where actions are points.
func (r *resampler) moments(tape policy.Tape, params []float32) error {
	points, ok := tape.(policy.Continuous)
	if !ok {
		return fmt.Errorf("%w: %T", policy.ErrContinuous, tape)
	}
	n := r.distinct.N * 2 * r.words
	r.normal = slices.Grow(r.normal[:0], n)[:n]
	return points.Moments(params, &r.distinct, policy.Backward, r.normal)
}

// draw appends a step back from a distinct state to dst: Only, in all its words,
// where the step is forced.
func (r *resampler) draw(dst []int32, at int, pcg *rand.PCG) []int32 {
	d := r.words
	mean, std := r.normal[at*2*d:at*2*d+d], r.normal[at*2*d+d:(at+1)*2*d]
	if math.IsNaN(mean[0]) {
		for range d {
			dst = append(dst, envs.Only)
		}
		return dst
	}
	for j := range d {
		dst = append(dst, envs.Word(float32(mean[j]+float64(std[j]*normal(pcg)))))
	}
	return dst
}

// normal draws a standard normal number (Box and Muller, 1958).
func normal(pcg *rand.PCG) float64 {
	u, v := float64(pcg.Uint64()>>11)/(1<<53), float64(pcg.Uint64()>>11)/(1<<53)
	return math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*v)
}
