package sampler_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/sampler"
)

func pointSpec(target string, dim int, epsilon, temperature float64) *job.Spec {
	spec := job.Default()
	spec.Name = "points"
	spec.Env = job.Env{Name: "diffusion", Params: map[string]any{"target": target, "dim": dim, "steps": 8, "sigma": 1.5}}
	spec.Policy = job.Policy{Kind: "gaussian", Hidden: []int{16}, Activation: "tanh", Backward: "uniform", Std: "learned"}
	spec.Sampling = job.Sampling{Epsilon: schedule.Const(epsilon), Temperature: schedule.Const(temperature)}
	return spec
}

// pointWorld is a roller with parameters, and the same policy once more.
func pointWorld(t testing.TB, spec *job.Spec) (*sampler.Roller, policy.Continuous, []float32) {
	t.Helper()
	roller, err := sampler.NewRoller(spec, 1)
	if err != nil {
		t.Fatal(err)
	}
	model, err := policy.FromSpec(spec.Policy, roller.Env().Spec())
	if err != nil {
		t.Fatal(err)
	}
	params := make([]float32, model.Layout().Size())
	model.Init(params, 3)
	for i := range params {
		params[i] += float32(math.Sin(float64(7*i))) / 3 // a policy with preferences
	}
	return roller, model.NewTape().(policy.Continuous), params
}

// normalLog is a log-density, written as plainly as it can be.
func normalLog(x, mean, std float64) float64 {
	return -(x-mean)*(x-mean)/(2*std*std) - math.Log(std) - math.Log(2*math.Pi)/2
}

// TestBehaviourOfPoints: each trajectory's log-probability is that of the mixture
// (1−ε)·N(m, T s²) + ε·N(m, 9 s²) of every step, and ratios of P_F to it average to 1.
func TestBehaviourOfPoints(t *testing.T) {
	for _, c := range []struct{ epsilon, temperature float64 }{{0, 1}, {0, 1.5}, {0.2, 1}, {0.3, 1.3}, {1, 1}} {
		t.Run(fmt.Sprintf("epsilon %v, temperature %v", c.epsilon, c.temperature), func(t *testing.T) {
			const dim = 3
			roller, tape, params := pointWorld(t, pointSpec("funnel", dim, c.epsilon, c.temperature))
			batch, err := roller.SampleN(4000, params, 0, 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			spec, s := roller.Env().Spec(), roller.Env().NewStates(1)
			ratios := 0.0
			for i, tr := range batch {
				if len(tr.Actions) != spec.MaxSteps*dim {
					t.Fatalf("%d words", len(tr.Actions))
				}
				if i >= 400 && c.epsilon < 1 {
					break
				}
				s.Reset([]int32{0})
				want := 0.0
				for at := 0; at < len(tr.Actions); at += dim {
					var one policy.States
					one.Reset()
					one.Append(&spec, s, 0)
					m := make([]float64, 2*dim)
					if err := tape.Moments(params, &one, policy.Forward, m); err != nil {
						t.Fatal(err)
					}
					narrow, wide := 0.0, 0.0
					for j, w := range tr.Actions[at : at+dim] {
						x := float64(envs.Coordinate(w))
						narrow += normalLog(x, m[j], m[dim+j]*math.Sqrt(c.temperature))
						wide += normalLog(x, m[j], 3*m[dim+j])
					}
					want += math.Log((1-c.epsilon)*math.Exp(narrow) + c.epsilon*math.Exp(wide))
					if err := s.Forward([]int32{0}, tr.Actions[at:at+dim]); err != nil {
						t.Fatal(err)
					}
				}
				if math.Abs(tr.LogBehaviour-want) > 1e-6*(1+math.Abs(want)) {
					t.Fatalf("trajectory %d: %v, want %v", tr.Seq, tr.LogBehaviour, want)
				}
				if i == 40 && c.epsilon == 1 {
					break
				}
			}
			if c.epsilon == 1 { // too far from P_F for ratios
				return
			}
			actions := make([][]int32, len(batch))
			for i := range batch {
				actions[i] = batch[i].Actions
			}
			var b policy.Batch
			var scores policy.Scores
			if err := policy.NewAssembler(roller.Env()).Assemble(actions, &b); err != nil {
				t.Fatal(err)
			}
			if err := tape.Score(params, &b, &scores); err != nil {
				t.Fatal(err)
			}
			for i := range batch {
				lp := 0.0
				for k := b.FOffset[i]; k < b.FOffset[i+1]; k++ {
					lp += scores.LogPF[k]
				}
				ratios += math.Exp(lp-batch[i].LogBehaviour) / float64(len(batch))
			}
			if math.Abs(ratios-1) > 0.25 {
				t.Errorf("ratios of P_F to the behaviour average to %v", ratios)
			}
		})
	}
}

// TestPointsDoNotDependOnTheBatch: a trajectory follows from the seed and its number.
func TestPointsDoNotDependOnTheBatch(t *testing.T) {
	roller, _, params := pointWorld(t, pointSpec("gauss25", 2, 0.1, 1.2))
	all, err := roller.SampleN(20, params, 0, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for i := range all {
		text = append(text, roller.States().Text(i))
	}
	part, err := roller.SampleN(5, params, 0, 11, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, tr := range part {
		if !slices.Equal(tr.Actions, all[10+i].Actions) || tr.LogBehaviour != all[10+i].LogBehaviour || roller.States().Text(i) != text[10+i] {
			t.Errorf("trajectory %d is another one in another batch", tr.Seq)
		}
	}
}

// TestUntrainedPointsAreBrownian: the end of an untrained model's walk is N(0, σ²).
func TestUntrainedPointsAreBrownian(t *testing.T) {
	spec := pointSpec("gauss25", 2, 0, 1)
	roller, _, params := pointWorld(t, spec)
	clear(params)
	const n = 20000
	if _, err := roller.SampleN(n, params, 0, 1, nil); err != nil {
		t.Fatal(err)
	}
	mean, second := [2]float64{}, [2]float64{}
	for i := range n {
		for j, v := range roller.States().(envs.Points).AppendDense(nil, i)[1:3] {
			mean[j] += float64(v) / n
			second[j] += float64(v) * float64(v) / n
		}
	}
	for j := range 2 {
		if math.Abs(mean[j]) > 0.05 || math.Abs(second[j]/2.25-1) > 0.04 {
			t.Errorf("coordinate %d: mean %v, variance %v, want 0 and 2.25", j, mean[j], second[j])
		}
	}
}

func TestPointsDoNotAllocate(t *testing.T) {
	roller, _, params := pointWorld(t, pointSpec("manywell", 4, 0.1, 1.5))
	var batch []wire.Trajectory
	n := testing.AllocsPerRun(5, func() {
		var err error
		if batch, err = roller.SampleN(32, params, 0, 1, batch); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a rollout", n)
	}
}
