package policytest

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/driftmesh/driftmesh/policy"
)

// RandomBatch makes a batch of legal transitions between random states. They
// need not belong to any environment: state 0 has no backward action, others
// have at least one action each way.
func RandomBatch(r *rand.Rand, s Shape, states, trajectories int) *policy.Batch {
	b := &policy.Batch{FOffset: []int32{0}, BOffset: []int32{0}}
	b.States.N = states
	b.States.FeatOffset = []int32{0}
	for i := range states {
		for feature := range s.Features {
			if r.IntN(4) == 0 {
				b.States.FeatIndex = append(b.States.FeatIndex, int32(feature))
			}
		}
		b.States.FeatOffset = append(b.States.FeatOffset, int32(len(b.States.FeatIndex)))
		b.States.ForwardMask = append(b.States.ForwardMask, randomMask(r, s.Actions, true)...)
		b.States.BackwardMask = append(b.States.BackwardMask, randomMask(r, s.BackwardActions, i > 0)...)
	}
	for range trajectories {
		for range 1 + r.IntN(8) {
			at := int32(r.IntN(states))
			b.FState = append(b.FState, at)
			b.FAction = append(b.FAction, pick(r, b.States.ForwardMask[int(at)*s.Actions:][:s.Actions]))
			if at > 0 && s.BackwardActions > 0 {
				b.BState = append(b.BState, at)
				b.BAction = append(b.BAction, pick(r, b.States.BackwardMask[int(at)*s.BackwardActions:][:s.BackwardActions]))
			}
		}
		b.FOffset = append(b.FOffset, int32(len(b.FState)))
		b.BOffset = append(b.BOffset, int32(len(b.BState)))
	}
	return b
}

// RandomWeights gives every transition and every state of b a standard normal
// weight.
func RandomWeights(r *rand.Rand, b *policy.Batch) *policy.Weights {
	w := &policy.Weights{PF: make([]float64, len(b.FState)), PB: make([]float64, len(b.BState)), F: make([]float64, b.States.N)}
	for _, part := range [][]float64{w.PF, w.PB, w.F} {
		for i := range part {
			part[i] = r.NormFloat64()
		}
	}
	return w
}

func randomMask(r *rand.Rand, n int, some bool) []bool {
	mask := make([]bool, n)
	if !some || n == 0 {
		return mask
	}
	for i := range mask {
		mask[i] = r.IntN(3) > 0
	}
	mask[r.IntN(n)] = true
	return mask
}

// pick draws a legal action.
func pick(r *rand.Rand, mask []bool) int32 {
	for {
		if a := r.IntN(len(mask)); mask[a] {
			return int32(a)
		}
	}
}

// WantNear fails unless, tensor by tensor, the largest difference is at most
// tolerance times the largest element of want.
func WantNear[G, W float32 | float64](t *testing.T, what string, l policy.Layout, got []G, want []W, tolerance float64) {
	t.Helper()
	for _, p := range l {
		worst, scale := 0.0, 0.0
		for i := p.Offset; i < p.Offset+p.Len(); i++ {
			worst = max(worst, math.Abs(float64(got[i])-float64(want[i]))) // NaN wins
			scale = max(scale, math.Abs(float64(want[i])))
		}
		if !(worst <= tolerance*scale) {
			t.Errorf("%s: %s differs by %.3g at a scale of %.3g", what, p.Name, worst, scale)
		}
	}
}

func norm(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}
