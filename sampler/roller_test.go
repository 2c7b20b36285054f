package sampler_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/sampler"
)

func gridSpec(height int, epsilon, temperature float64) *job.Spec {
	spec := job.Default()
	spec.Name = "grid"
	spec.Env = job.Env{Name: "hypergrid", Params: map[string]any{"dim": 2, "height": height, "r0": 0.1}}
	spec.Policy.Hidden = []int{16, 16}
	spec.Sampling = job.Sampling{Epsilon: schedule.Const(epsilon), Temperature: schedule.Const(temperature)}
	return spec
}

// world is a roller with parameters, and the same policy once more.
type world struct {
	roller *sampler.Roller
	env    envs.Enumerable
	tape   policy.Tape
	params []float32
}

func newWorld(t testing.TB, spec *job.Spec) *world {
	t.Helper()
	roller, err := sampler.NewRoller(spec, 1)
	if err != nil {
		t.Fatal(err)
	}
	env, err := envs.Enumerate(roller.Env())
	if err != nil {
		t.Fatal(err)
	}
	model, err := policy.FromSpec(spec.Policy, env.Spec())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{roller: roller, env: env, tape: model.NewTape(), params: make([]float32, model.Layout().Size())}
	model.Init(w.params, 3)
	for i := range w.params {
		w.params[i] *= 4 // a policy with preferences
	}
	return w
}

func (w *world) sample(t testing.TB, n int, version, first uint64) []wire.Trajectory {
	t.Helper()
	out, err := w.roller.SampleN(n, w.params, version, first, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// behaviour is the log-probability of every action of a state under the mixture
// (1−ε)·softmax(log P_F / T) + ε/legal, written as plainly as it can be.
func (w *world) behaviour(t testing.TB, s envs.States, row int, params []float32, epsilon, temperature float64) []float64 {
	t.Helper()
	spec := w.env.Spec()
	var one policy.States
	one.Reset()
	one.Append(&spec, s, row)
	logPF := make([]float32, spec.Actions)
	if err := w.tape.LogProbs(params, &one, policy.Forward, logPF); err != nil {
		t.Fatal(err)
	}
	legal, sum := 0.0, 0.0
	for a, ok := range one.ForwardMask {
		if ok {
			legal++
			sum += math.Exp(float64(logPF[a]) / temperature)
		}
	}
	out := make([]float64, spec.Actions)
	for a, ok := range one.ForwardMask {
		out[a] = math.Inf(-1)
		if ok {
			out[a] = math.Log((1-epsilon)*math.Exp(float64(logPF[a])/temperature)/sum + epsilon/legal)
		}
	}
	return out
}

// replayed is log π_behaviour of a trajectory, step by step.
func (w *world) replayed(t testing.TB, tr *wire.Trajectory, params []float32, epsilon, temperature float64) (total float64) {
	t.Helper()
	s := w.env.NewStates(1)
	for _, a := range tr.Actions {
		total += w.behaviour(t, s, 0, params, epsilon, temperature)[a]
		if err := s.Forward([]int32{0}, []int32{a}); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Terminal(0) {
		t.Fatalf("trajectory %d ends in the unfinished %s", tr.Seq, s.Text(0))
	}
	reward := make([]float64, 1)
	if err := s.LogReward([]int32{0}, reward); err != nil || reward[0] != tr.LogReward {
		t.Fatalf("log-reward %v of %s, want %v (%v)", tr.LogReward, s.Text(0), reward[0], err)
	}
	return total
}

// TestObjectsFollowTheBehaviour: sampled objects against the exact terminating
// distribution of the mixture (χ², refused at one in a million), and each
// trajectory's own log-probability.
func TestObjectsFollowTheBehaviour(t *testing.T) {
	for _, c := range []struct{ epsilon, temperature float64 }{{0, 1}, {0.3, 1}, {0, 2.5}, {0.1, 0.4}, {1, 1}} {
		t.Run(fmt.Sprintf("epsilon %v, temperature %v", c.epsilon, c.temperature), func(t *testing.T) {
			w := newWorld(t, gridSpec(5, c.epsilon, c.temperature))
			s := w.env.NewStates(1)
			exact, err := envs.Terminating(w.env, func(first int, out []float32) error {
				width := w.env.Spec().Actions
				for i := 0; i < len(out); i += width {
					w.env.Load(s, 0, first+i/width)
					for a, lp := range w.behaviour(t, s, 0, w.params, c.epsilon, c.temperature) {
						out[i+a] = float32(lp)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			const samples, chunk = 20_000, 1000
			counts := make([]float64, len(exact))
			for first := uint64(1); first <= samples; first += chunk {
				batch := w.sample(t, chunk, 0, first)
				for i := range batch {
					counts[w.env.Object(w.roller.States(), i)]++
				}
				for i := range batch[:20] {
					want := w.replayed(t, &batch[i], w.params, c.epsilon, c.temperature)
					if math.Abs(batch[i].LogBehaviour-want) > 1e-6*(1+math.Abs(want)) {
						t.Fatalf("trajectory %d: log behaviour %v, want %v", batch[i].Seq, batch[i].LogBehaviour, want)
					}
				}
			}
			chi2, classes, rareWant, rareGot := 0.0, 0.0, 0.0, 0.0
			add := func(got, want float64) {
				chi2 += (got - want) * (got - want) / want
				classes++
			}
			for object, lp := range exact {
				if want := samples * math.Exp(lp); want >= 5 {
					add(counts[object], want)
				} else {
					rareWant, rareGot = rareWant+want, rareGot+counts[object]
				}
			}
			if rareWant >= 5 || rareGot >= 20 {
				add(rareGot, math.Max(rareWant, 1e-9))
			}
			if p := (distuv.ChiSquared{K: classes - 1}).Survival(chi2); p < 1e-6 {
				t.Errorf("χ² = %.1f in %v classes", chi2, classes)
			}
		})
	}
}

// TestTrajectoriesDoNotDependOnTheirBatch: each draws from the stream of its
// number, and is scored alike whatever shares its batch.
func TestTrajectoriesDoNotDependOnTheirBatch(t *testing.T) {
	w := newWorld(t, gridSpec(8, 0.1, 1.3))
	together := w.sample(t, 64, 5, 100)
	for i, want := range together {
		want.Actions = slices.Clone(want.Actions)
		got := w.sample(t, 1, 5, want.Seq)[0]
		if !same(got, want) {
			t.Fatalf("row %d alone is %+v, in its batch %+v", i, got, want)
		}
	}
	for at := 0; at < 64; at += 16 {
		for i, got := range w.sample(t, 16, 5, together[at].Seq) {
			if !same(got, together[at+i]) {
				t.Fatalf("trajectory %d differs in a batch of 16", got.Seq)
			}
		}
	}
	// Another worker, another seed: other streams.
	spec := gridSpec(8, 0.1, 1.3)
	for name, change := range map[string]func() (*sampler.Roller, error){
		"worker": func() (*sampler.Roller, error) { return sampler.NewRoller(spec, 2) },
		"seed":   func() (*sampler.Roller, error) { s := *spec; s.Seed++; return sampler.NewRoller(&s, 1) },
	} {
		roller, err := change()
		if err != nil {
			t.Fatal(err)
		}
		other, err := roller.SampleN(64, w.params, 5, 100, nil)
		if err != nil {
			t.Fatal(err)
		}
		if slices.EqualFunc(together, other, same) {
			t.Errorf("another %s gives the same trajectories", name)
		}
	}
}

func same(a, b wire.Trajectory) bool {
	return a.Seq == b.Seq && a.Version == b.Version && slices.Equal(a.Actions, b.Actions) &&
		a.LogReward == b.LogReward && a.LogBehaviour == b.LogBehaviour
}

// TestRollerReusesItsDestination without leaving anything of the batch before.
func TestRollerReusesItsDestination(t *testing.T) {
	w := newWorld(t, gridSpec(6, 0.2, 1))
	var dst []wire.Trajectory
	for _, n := range []int{8, 3, 20, 1} {
		var err error
		if dst, err = w.roller.SampleN(n, w.params, 2, 7, dst); err != nil {
			t.Fatal(err)
		}
		if want := w.sample(t, n, 2, 7); len(dst) != n || !slices.EqualFunc(dst, want, same) {
			t.Fatalf("%d trajectories into a used destination differ from fresh ones", n)
		}
	}
	// A learner's vector goes on behind the model's parameters.
	longer := append(slices.Clone(w.params), float32(math.NaN()))
	if got, err := w.roller.SampleN(1, longer, 2, 7, nil); err != nil || !same(got[0], dst[0]) {
		t.Errorf("a longer vector: %v, %v", got, err)
	}
}

// TestExplorationFollowsItsSchedule by the version of the parameters.
func TestExplorationFollowsItsSchedule(t *testing.T) {
	spec := gridSpec(6, 0, 1)
	spec.Sampling.Epsilon = schedule.Value{Kind: schedule.Linear, From: 1, To: 0, Over: 10}
	spec.Sampling.Temperature = schedule.Value{Kind: schedule.Linear, From: 2, To: 1, Over: 10}
	w := newWorld(t, spec)
	for _, version := range []uint64{0, 5, 10, 100} {
		epsilon, temperature := math.Max(0, 1-float64(version)/10), math.Max(1, 2-float64(version)/10)
		for _, tr := range w.sample(t, 16, version, 1) {
			if want := w.replayed(t, &tr, w.params, epsilon, temperature); math.Abs(tr.LogBehaviour-want) > 1e-6*(1+math.Abs(want)) {
				t.Errorf("version %d: log behaviour %v, want %v", version, tr.LogBehaviour, want)
			}
		}
	}
}

func TestRollerFaults(t *testing.T) {
	w := newWorld(t, gridSpec(4, 0, 1))
	if _, err := w.roller.SampleN(4, w.params[1:], 0, 1, nil); err == nil {
		t.Error("sampled with too few parameters")
	}
	for _, n := range []int{0, -1} {
		if _, err := w.roller.SampleN(n, w.params, 0, 1, nil); err == nil {
			t.Errorf("sampled %d trajectories", n)
		}
	}
	broken := slices.Clone(w.params)
	for i := range broken {
		broken[i] = float32(math.NaN())
	}
	if _, err := w.roller.SampleN(4, broken, 0, 1, nil); err == nil {
		t.Error("sampled with NaN parameters")
	}
	w.sample(t, 4, 0, 1) // and goes on after all that
	for name, spoil := range map[string]func(*job.Spec){
		"environment": func(s *job.Spec) { s.Env.Name = "hypergird" },
		"network":     func(s *job.Spec) { s.Policy.Activation = "sine" },
	} {
		spec := gridSpec(4, 0, 1)
		spoil(spec)
		if _, err := sampler.NewRoller(spec, 0); err == nil {
			t.Errorf("made a roller of an unknown %s", name)
		}
	}
}
