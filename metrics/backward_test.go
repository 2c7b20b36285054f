package metrics_test

import (
	"errors"
	"math"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/metrics"
)

// TestBackwardImportanceIsUnbiased for the probability of every object of a grid
// under the uniform forward policy, with uniform steps back.
func TestBackwardImportanceIsUnbiased(t *testing.T) {
	e := grid(t, func(c *hypergrid.Config) { c.Dim, c.Height = 2, 5 })
	exact, err := envs.Terminating(e, envs.Uniform(e))
	if err != nil {
		t.Fatal(err)
	}
	v, err := metrics.NewEvaluator(e, 1)
	if err != nil {
		t.Fatal(err)
	}
	const k, repeats = 4, 4000
	s, spec, rnd := e.NewStates(1), e.Spec(), rng.New(7, rng.Evaluate)
	source := string(s.AppendKey(nil, 0))
	back, forth := make([]bool, spec.BackwardActions), make([]bool, spec.Actions)
	for _, text := range []string{"(0,0)", "(0,3)", "(2,2)", "(3,1)", "(4,4)"} {
		var logPF, logPB []float64
		object := 0
		for range k * repeats {
			if err := s.Parse(0, text); err != nil {
				t.Fatal(err)
			}
			object = v.Object(s, 0)
			pf, pb := 0.0, 0.0
			for string(s.AppendKey(nil, 0)) != source {
				s.BackwardMask(0, back)
				var ways []int32
				for b, ok := range back {
					if ok {
						ways = append(ways, int32(b))
					}
				}
				b := envs.Only
				if len(ways) > 0 {
					b = ways[rnd.IntN(len(ways))]
					pb -= math.Log(float64(len(ways)))
				}
				if err := s.Backward([]int32{0}, []int32{b}); err != nil {
					t.Fatal(err)
				}
				s.ForwardMask(0, forth)
				legal := 0
				for _, ok := range forth {
					if ok {
						legal++
					}
				}
				pf -= math.Log(float64(legal))
			}
			logPF, logPB = append(logPF, pf), append(logPB, pb)
		}
		got, err := metrics.BackwardImportance(logPF, logPB, k)
		if err != nil {
			t.Fatal(err)
		}
		mean, squares := 0.0, 0.0
		for _, lp := range got {
			mean += math.Exp(lp) / repeats
			squares += math.Exp(2*lp) / repeats
		}
		se := math.Sqrt(max(squares-mean*mean, 0) / repeats)
		if want := math.Exp(exact[object]); math.Abs(mean-want) > 4.5*se+1e-6*want {
			t.Errorf("%s: %v ± %v, want %v", text, mean, se, want)
		}
	}
}

func TestBackwardImportanceFaults(t *testing.T) {
	two := []float64{0, 0}
	if _, err := metrics.BackwardImportance(two, two[:1], 1); !errors.Is(err, metrics.ErrLength) {
		t.Errorf("lengths: %v", err)
	}
	for _, k := range []int{0, 3} {
		if _, err := metrics.BackwardImportance(two, two, k); err == nil {
			t.Errorf("%d of each are accepted", k)
		}
	}
	near(t, "log mean exp", metrics.LogMeanExp([]float64{1000, 1000 + math.Log(3)}), 1000+math.Ln2, 1e-12)
	near(t, "of nothing", metrics.LogMeanExp(nil), math.Inf(-1), 0)
}
