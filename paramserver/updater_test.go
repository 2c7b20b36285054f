package paramserver_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

// smallSpec is a grid that trains in milliseconds.
func smallSpec() *job.Spec {
	spec := gridSpec(2, 4)
	spec.Policy.Hidden = []int{8, 8}
	spec.Policy.Activation = "tanh"
	return spec
}

// plainDescent makes a step subtract the gradient itself.
func plainDescent(spec *job.Spec) *job.Spec {
	spec.Optimiser.Kind, spec.Optimiser.Momentum, spec.Optimiser.ClipNorm = "sgd", 0, 0
	spec.Optimiser.LearningRate, spec.Optimiser.LogZRate = schedule.Const(1), schedule.Const(1)
	return spec
}

func newUpdater(t testing.TB, spec *job.Spec) *paramserver.Updater {
	t.Helper()
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func newRoller(t testing.TB, spec *job.Spec) *sampler.Roller {
	t.Helper()
	r, err := sampler.NewRoller(spec, 0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sampled rolls out n trajectories with u's present parameters.
func sampled(t testing.TB, u *paramserver.Updater, n int) []wire.Trajectory {
	t.Helper()
	batch, err := newRoller(t, u.Spec).SampleN(n, u.Params(), u.Version(), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func noRefusal(t testing.TB) func(*wire.Trajectory, error) {
	return func(tr *wire.Trajectory, err error) { t.Errorf("trajectory %d refused: %v", tr.Seq, err) }
}

func mustStep(t testing.TB, u *paramserver.Updater, batch []wire.Trajectory) *paramserver.Update {
	t.Helper()
	update, err := u.Step(batch, noRefusal(t))
	if err != nil {
		t.Fatal(err)
	}
	return update
}

// state is everything that a Commit would hold.
func state(t testing.TB, u *paramserver.Updater) []byte {
	t.Helper()
	params, private, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append(params, private...)
}

// TestStepFollowsTheSlope compares what a step subtracts with differences of
// the loss that steps report, end to end: assembly, scores, objective, spread
// of the weights, backward pass, optimiser.
func TestStepFollowsTheSlope(t *testing.T) {
	for _, c := range []struct{ divergence, normaliser, backward string }{
		{"hellinger", "learned", "joint"},
		{"forward_kl,tail:5", "learned", "uniform"},
		{"jeffreys", "learned", "frozen"},
		{"alpha:0.75", "batch_optimal", "joint"},
		{"jensen_shannon", "batch_optimal", "uniform"},
		{"reverse_kl", "batch_mean", "joint"},
	} {
		t.Run(c.divergence+" "+c.normaliser+" "+c.backward, func(t *testing.T) {
			spec := plainDescent(smallSpec())
			spec.Loss.Divergence, spec.Loss.Normaliser, spec.Policy.Backward = c.divergence, c.normaliser, c.backward
			spec.Loss.LogZInit = 0.5
			u := newUpdater(t, spec)
			batch := sampled(t, u, 16)
			before := slices.Clone(u.Params())
			_, private, err := u.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			update := mustStep(t, u, batch)
			grad, norm := make([]float64, len(before)), 0.0
			for i, p := range u.Params() {
				grad[i] = float64(before[i]) - float64(p)
				norm += grad[i] * grad[i]
			}
			norm = math.Sqrt(norm)
			if math.Abs(norm-update.GradNorm) > 1e-4*norm {
				t.Errorf("moved by %v, the gradient's norm is said to be %v", norm, update.GradNorm)
			}
			// lossAt restores a moved vector and lets a step say its loss.
			lossAt := func(direction []float64, h float64) float64 {
				moved := slices.Clone(before)
				for i, d := range direction {
					moved[i] += float32(h * d)
				}
				v := newUpdater(t, spec)
				if err := v.RestoreFloats(0, moved, private); err != nil {
					t.Fatal(err)
				}
				return mustStep(t, v, batch).Loss.Loss
			}
			r := rand.New(rand.NewPCG(1, 2))
			for try := range 4 {
				direction, projection := make([]float64, len(grad)), 0.0
				for i, g := range grad {
					direction[i] = g / norm
					if try > 0 {
						direction[i] += r.NormFloat64() / math.Sqrt(float64(len(grad)))
					}
					projection += direction[i] * g
				}
				const h = 2e-3
				if got := (lossAt(direction, h) - lossAt(direction, -h)) / (2 * h); math.Abs(got-projection) > 2e-3*norm {
					t.Errorf("direction %d: slope %v, the step says %v (gradient of length %v)", try, got, projection, norm)
				}
			}
		})
	}
}

// TestOnlyALearnedLogZMoves: other normalisers belong to the loss.
func TestOnlyALearnedLogZMoves(t *testing.T) {
	for _, normaliser := range []string{"learned", "batch_mean", "batch_optimal", "leave_one_out", "running"} {
		spec := smallSpec()
		spec.Loss.Normaliser, spec.Loss.LogZInit = normaliser, 0.25
		u := newUpdater(t, spec)
		mustStep(t, u, sampled(t, u, 16))
		if moved := u.LogZ() != 0.25; moved != (normaliser == "learned") {
			t.Errorf("%s: log Z is %v after a step from 0.25", normaliser, u.LogZ())
		}
	}
}

// TestFrozenBackwardPolicyStays: the trunk is shared and moves, log P_B does not.
func TestFrozenBackwardPolicyStays(t *testing.T) {
	for _, mode := range []string{"frozen", "joint"} {
		spec := smallSpec()
		spec.Policy.Backward = mode
		u := newUpdater(t, spec)
		probe := sampled(t, u, 16)
		first := slices.Clone(mustStep(t, u, probe).In.LogPB)
		for range 30 {
			mustStep(t, u, sampled(t, u, 16))
		}
		// A successor that restores the state freezes the same P_B.
		v := newUpdater(t, spec)
		params, private, err := u.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Restore(u.Version(), params, private); err != nil {
			t.Fatal(err)
		}
		for name, w := range map[string]*paramserver.Updater{"trained": u, "restored": v} {
			if same := slices.Equal(first, mustStep(t, w, probe).In.LogPB); same != (mode == "frozen") {
				t.Errorf("%s, %s: log P_B is as at version 0: %v", mode, name, same)
			}
		}
	}
}

// TestMaxLikelihoodRaisesLogPB of what was sampled, and leaves the loss to P_F.
func TestMaxLikelihoodRaisesLogPB(t *testing.T) {
	spec := smallSpec()
	spec.Policy.Backward = "max_likelihood"
	u := newUpdater(t, spec)
	batch := sampled(t, u, 32)
	mean := func() (m float64) {
		for _, v := range mustStep(t, u, batch).In.LogPB {
			m += v / 32
		}
		return m
	}
	first := mean()
	for range 300 {
		mustStep(t, u, batch)
	}
	if last := mean(); last < first+0.05 {
		t.Errorf("mean log P_B of the sampled trajectories went from %v to %v", first, last)
	}
}

// TestRewardExponent: the target is R^β at the scheduled β.
func TestRewardExponent(t *testing.T) {
	spec := smallSpec()
	spec.RewardExponent = schedule.Value{Kind: schedule.Linear, From: 1, To: 3, Over: 4}
	u := newUpdater(t, spec)
	for v := range 6 {
		batch := sampled(t, u, 8)
		want := math.Min(1+float64(v)/2, 3)
		for i, got := range mustStep(t, u, batch).In.LogReward {
			if math.Abs(got-want*batch[i].LogReward) > 1e-12 {
				t.Fatalf("update %d: log R of %v trains as %v, want exponent %v", v, batch[i].LogReward, got, want)
			}
		}
	}
	exact, err := paramserver.NewUpdater(spec)
	if err != nil {
		t.Fatal(err)
	}
	spec2 := *spec
	spec2.RewardExponent = schedule.Const(3)
	if a, b := exact.Exact(t.Context()).LogZ(), newUpdater(t, &spec2).Exact(t.Context()).LogZ(); a != b {
		t.Errorf("the final target's log Z is %v, want %v", a, b)
	}
}

// TestEqualBitsAtAnyGOMAXPROCS over sampling and training.
func TestEqualBitsAtAnyGOMAXPROCS(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	spec := gridSpec(3, 6) // with layers wide enough to be worth splitting
	var first []byte
	for _, procs := range []int{1, 2, 8} {
		runtime.GOMAXPROCS(procs)
		got := state(t, train(t, spec, 25))
		if first == nil {
			first = got
		}
		if !bytes.Equal(got, first) {
			t.Errorf("GOMAXPROCS %d gives other bits than 1", procs)
		}
	}
}

// TestSpecFaultsNameTheirField in everything that a spec names.
func TestSpecFaultsNameTheirField(t *testing.T) {
	for path, spoil := range map[string]func(*job.Spec){
		"env":              func(s *job.Spec) { s.Env.Name = "hypergird" },
		"env.params.dim":   func(s *job.Spec) { s.Env.Params["dim"] = -1 },
		"loss.divergence":  func(s *job.Spec) { s.Loss.Divergence = "helinger" },
		"loss.normaliser":  func(s *job.Spec) { s.Loss.Normaliser, s.Train.Batch = "batch_optimal", 2 },
		"policy.hidden[0]": func(s *job.Spec) { s.Policy.Hidden = []int{0} },
		"optimiser.beta1":  func(s *job.Spec) { s.Optimiser.Beta1 = 2 },
	} {
		spec := smallSpec()
		spoil(spec)
		if _, err := paramserver.NewUpdater(spec); err == nil || !bytes.Contains([]byte(err.Error()), []byte(path)) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestBestObjectsAreDistinctAndSentOnce.
func TestBestObjectsAreDistinctAndSentOnce(t *testing.T) {
	u := train(t, smallSpec(), 60)
	best := u.Best()
	seen := map[string]bool{}
	for i, o := range best {
		if seen[o.Text] {
			t.Errorf("%s is listed twice", o.Text)
		}
		seen[o.Text] = true
		if i > 0 && o.LogReward > best[i-1].LogReward {
			t.Errorf("%s with %v stands behind %v", o.Text, o.LogReward, best[i-1].LogReward)
		}
	}
	if len(best) == 0 || best[0].LogReward < math.Log(0.501)-1e-9 {
		t.Errorf("the best of 960 trajectories on 16 cells is %v", best)
	}
	if sent := u.TakeBest(); len(sent) != len(best) {
		t.Errorf("%d candidates sent, %d are listed", len(sent), len(best))
	}
	if again := u.TakeBest(); len(again) != 0 {
		t.Errorf("sent again: %v", again)
	}
}

// TestStepAllocatesNothing in the steady state.
func TestStepAllocatesNothing(t *testing.T) {
	for _, mode := range []string{"joint", "frozen"} {
		spec := modalSpec()
		spec.Policy.Backward = mode
		u := newUpdater(t, spec)
		roller := newRoller(t, spec)
		var batch []wire.Trajectory
		var err error
		seq := uint64(1)
		sample := func() {
			if batch, err = roller.SampleN(16, u.Params(), u.Version(), seq, batch); err != nil {
				t.Fatal(err)
			}
			seq += 16
		}
		for range 300 { // buffers grow, and the best objects are found
			sample()
			mustStep(t, u, batch)
		}
		step := testing.AllocsPerRun(50, func() { mustStep(t, u, batch) })
		rolled := testing.AllocsPerRun(50, sample)
		t.Logf("%s: %v allocations a step, %v a rollout of 16", mode, step, rolled)
		if step > 1 || rolled > 1 {
			t.Errorf("%s: %v allocations a step, %v a rollout", mode, step, rolled)
		}
	}
}
