package losses

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestWeightsAreCopies: a batch with integer weights gives the loss, normaliser
// and gradient of the batch with as many copies.
func TestWeightsAreCopies(t *testing.T) {
	for _, member := range []string{"reverse_kl", "hellinger", "forward_kl,tail:2", "jensen_shannon", "total_variation", "alpha:0.3"} {
		for _, normaliser := range []Normaliser{Learned, BatchMean, BatchOptimal, Running} {
			for _, backward := range []Backward{Joint, MaxLikelihood} {
				t.Run(member+" "+string(normaliser)+" "+string(backward), rapid.MakeCheck(func(t *rapid.T) {
					n := rapid.IntRange(4, 10).Draw(t, "n")
					var in, copies Input
					in.LogZ, copies.LogZ = 0.3, 0.3
					var from []int
					for i := range n {
						pf, lr := rapid.Float64Range(-4, 0).Draw(t, "pf"), rapid.Float64Range(-2, 2).Draw(t, "r")
						k := rapid.IntRange(1, 4).Draw(t, "copies")
						group := int32(i % 2)
						if normaliser == BatchOptimal || normaliser == Running {
							group = 0
						}
						in.add(pf, -0.5, lr, group)
						in.Weights = append(in.Weights, float64(k))
						for range k {
							copies.add(pf, -0.5, lr, group)
							from = append(from, i)
						}
					}
					one, two := mustTB(t, member, normaliser, backward), mustTB(t, member, normaliser, backward)
					var a, b Output
					if err := errors.Join(one.Evaluate(0, &in, &a), two.Evaluate(0, &copies, &b)); err != nil {
						t.Fatal(err)
					}
					w, wb := make([]float64, n), make([]float64, n)
					for j, i := range from {
						w[i] += b.W[j]
						wb[i] += b.WB[j]
					}
					equal := func(what string, x, y float64) {
						t.Helper()
						if !(math.Abs(x-y) <= 1e-9*(1+math.Abs(y))) && !(math.IsNaN(x) && math.IsNaN(y)) {
							t.Fatalf("%s is %v with weights, %v with copies", what, x, y)
						}
					}
					equal("loss", a.Loss, b.Loss)
					equal("gradient of log Z", a.GradLogZ, b.GradLogZ)
					for g := range a.C {
						equal("c", a.C[g], b.C[g])
					}
					for i := range n {
						// At a kink of g the slope of either side is right.
						if member == "total_variation" && math.Abs(a.Delta[i]) < 1e-9 {
							continue
						}
						equal("w", a.W[i], w[i])
						equal("w of P_B", a.WB[i], wb[i])
					}
				}))
			}
		}
	}
}

func (in *Input) add(pf, pb, lr float64, group int32) {
	in.LogPF, in.LogPB, in.LogReward = append(in.LogPF, pf), append(in.LogPB, pb), append(in.LogReward, lr)
	in.Groups = append(in.Groups, group)
}

func mustTB(t interface{ Fatal(...any) }, member string, n Normaliser, b Backward) *TB {
	m, err := NewMember(member, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	tb, err := NewTB(Config{Member: m, Normaliser: n, Backward: b, RunningDecay: 0.5, Groups: 2})
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// TestWeightedLeaveOneOut: equal weights change nothing, and what a trajectory
// is held against does not depend on it.
func TestWeightedLeaveOneOut(t *testing.T) {
	for _, b := range []float64{0, 1e-9, 0.5, 1, -0.7} {
		delta := []float64{0.3, -1.2, 2.5, 0.1, 40}
		plain, equal, weighed := make([]float64, 5), make([]float64, 5), make([]float64, 5)
		leaveOneOut(delta, b, plain)
		newWeighted(delta, []float64{2, 2, 2, 2, 2}).leaveOneOut(b, equal)
		for i := range delta {
			near(t, "c", equal[i], plain[i], 1e-9)
		}
		weight := []float64{0.5, 1, 0.25, 1, 0.1}
		newWeighted(delta, weight).leaveOneOut(b, weighed)
		before := weighed[2]
		delta[2], weight[2] = -3, 0.9
		newWeighted(delta, weight).leaveOneOut(b, weighed)
		near(t, "c of a changed trajectory", weighed[2], before, 1e-12)
	}
}

// TestWeightsScaleAway: only ratios of weights matter; bad ones are refused.
func TestWeightsScaleAway(t *testing.T) {
	tb := mustTB(t, "hellinger", BatchOptimal, Joint)
	var in Input
	for i := range 6 {
		in.add(-float64(i), -0.1, 0.2*float64(i), 0)
	}
	var plain, scaled Output
	if err := tb.Evaluate(0, &in, &plain); err != nil {
		t.Fatal(err)
	}
	in.Weights = []float64{.2, .2, .2, .2, .2, .2}
	if err := tb.Evaluate(0, &in, &scaled); err != nil {
		t.Fatal(err)
	}
	near(t, "loss", scaled.Loss, plain.Loss, 1e-12)
	for i := range plain.W {
		if math.Abs(scaled.W[i]-plain.W[i]) > 1e-12 {
			t.Errorf("w[%d] = %v, want %v", i, scaled.W[i], plain.W[i])
		}
	}
	for _, bad := range [][]float64{{1}, {1, 1, 1, 1, 1, 0}, {1, 1, 1, 1, 1, -1}, {1, 1, 1, 1, 1, math.NaN()}, {1, 1, 1, 1, 1, math.Inf(1)}} {
		in.Weights = bad
		if err := tb.Evaluate(0, &in, &scaled); !errors.Is(err, ErrInput) {
			t.Errorf("weights %v: %v", bad, err)
		}
	}
	in.Weights = []float64{1, .5, 1, .5, 1, .5}
	if n := testing.AllocsPerRun(20, func() { _ = tb.Evaluate(0, &in, &scaled) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
