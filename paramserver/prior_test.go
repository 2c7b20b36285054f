package paramserver_test

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

// saved is the folder of a run with u's parameters.
func saved(t *testing.T, u *paramserver.Updater) string {
	t.Helper()
	spec, err := u.Spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	c := &runs.Checkpoint{Version: int64(u.Version()), Trajectories: u.Trajectories(), Spec: spec, Params: u.Params()}
	for _, p := range u.Layout() {
		c.Layout = append(c.Layout, runs.Param{Name: p.Name, Shape: p.Shape, Group: p.Group})
	}
	dir := filepath.Join(t.TempDir(), "prior")
	run, err := runs.Create(dir, runs.Info{Name: "prior"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(run.SaveCheckpoint(c), run.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tilting is a job that tilts the untrained walk on the plane, a normal distribution
// of variance sigma², by the column of the nearest of 25 centres.
func tilting(t *testing.T) (prior, tuned *job.Spec) {
	t.Helper()
	prior = pointSpec()
	prior.Env.Params = map[string]any{"target": "gauss25", "steps": 6, "sigma": 5.0}
	tuned = pointSpec()
	tuned.Env.Params = map[string]any{"target": "tilt25", "tilt": 0.5, "steps": 6, "sigma": 5.0}
	tuned.Loss.Prior = saved(t, newUpdater(t, prior))
	tuned.Loss.LogZInit = 0
	tuned.Loss.Divergence = "hellinger,tail:5"
	tuned.Optimiser.LogZRate = schedule.Const(0.01)
	return prior, tuned
}

// TestUntunedIsThePrior: a job begins as its prior, and then δ is log Z − log R.
func TestUntunedIsThePrior(t *testing.T) {
	_, spec := tilting(t)
	u := newUpdater(t, spec)
	in, err := u.Scores(sampled(t, u, 50))
	if err != nil {
		t.Fatal(err)
	}
	for i := range in.LogPF {
		if in.LogPF[i] != in.LogPB[i] {
			t.Errorf("trajectory %d: log P_F %v, log-prior %v", i, in.LogPF[i], in.LogPB[i])
		}
	}
}

// columns are the shares of the posterior of tilting, and its log Z: the prior's, a normal
// distribution's, times their factors.
func columns() (share [5]float64, logZ float64) {
	phi := func(x float64) float64 { return math.Erfc(-x/5/math.Sqrt2) / 2 }
	edge := []float64{math.Inf(-1), -7.5, -2.5, 2.5, 7.5, math.Inf(1)}
	z := 0.0
	for k := range share {
		share[k] = math.Exp(0.5*float64(k-2)) * (phi(edge[k+1]) - phi(edge[k]))
		z += share[k]
	}
	for k := range share {
		share[k] /= z
	}
	return share, math.Log(z)
}

// shares are those of the columns among n objects of the policy.
func shares(t *testing.T, u *paramserver.Updater, n int) (share [5]float64) {
	t.Helper()
	for _, tr := range sampled(t, u, n) {
		share[int(math.Round(tr.LogReward/0.5))+2] += 1 / float64(n)
	}
	return share
}

// TestTuningTiltsThePrior on-policy and on data of 50 updates ago.
func TestTuningTiltsThePrior(t *testing.T) {
	want, logZ := columns()
	for _, lag := range []int{0, 50} {
		_, spec := tilting(t)
		u, roller := newUpdater(t, spec), newRoller(t, spec)
		var past [][]float32
		var batch []wire.Trajectory
		for v := range 600 {
			past = append(past, append([]float32(nil), u.Params()...))
			from := max(0, v-lag)
			var err error
			if batch, err = roller.SampleN(spec.Train.Batch, past[from], uint64(from), u.Trajectories()+1, batch); err != nil {
				t.Fatal(err)
			}
			if _, err := u.Step(batch, nil); err != nil {
				t.Fatal(err)
			}
		}
		if got := u.LogZ(); math.Abs(got-logZ) > 0.15 {
			t.Errorf("lag %d: log Z %v, want %v", lag, got, logZ)
		}
		spec.Eval.Samples = 2000
		e := estimate(t, u)
		within(t, "log Z by importance sampling", e.LogZ, logZ)
		if e.EUBO != nil || e.Sinkhorn != nil || e.TestSet != nil {
			t.Errorf("estimates from a target that is not the environment's: %+v", e)
		}
		got := shares(t, u, 4000)
		for k := range want {
			if math.Abs(got[k]-want[k]) > 0.05 {
				t.Errorf("lag %d: column %d has a share of %v, want %v", lag, k, got[k], want[k])
			}
		}
	}
}

func TestPriorsThatDoNotFit(t *testing.T) {
	for what, c := range map[string]struct {
		spoil      func(s *job.Spec)
		path, want string
	}{
		"no prior":    {func(s *job.Spec) { s.Loss.Prior = "" }, "loss.prior", "no target of its own"},
		"no run":      {func(s *job.Spec) { s.Loss.Prior = "nowhere" }, "loss.prior", "folder of a finished run"},
		"other steps": {func(s *job.Spec) { s.Env.Params["steps"] = 7 }, "loss.prior", "states like those"},
		"a drift that follows log R": {func(s *job.Spec) {
			prior := pointSpec()
			prior.Env.Params = map[string]any{"target": "gauss25", "steps": 6, "sigma": 5.0}
			prior.Policy.Drift = "langevin"
			s.Loss.Prior = saved(t, newUpdater(t, prior))
			newUpdater(t, s) // the reward is another, and the states show the gradient of gauss25 all the same
			s.Env.Params = map[string]any{"target": "manywell", "dim": 2, "steps": 6, "sigma": 5.0}
		}, "loss.prior", "plain"},
		"learned P_B": {func(s *job.Spec) {
			s.Env = job.Env{Name: "hypergrid", Params: map[string]any{}}
			s.Policy.Kind, s.Policy.Backward = "mlp", "joint"
		}, "policy.backward", "uniform"},
	} {
		_, spec := tilting(t)
		c.spoil(spec)
		_, err := paramserver.NewUpdater(spec)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path || !strings.Contains(fault.Want, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestPriorsOfOtherLosses: a prior may have been trained with flows of states, which
// its forward policy does without, and may be of another shape than the job's policy.
func TestPriorsOfOtherLosses(t *testing.T) {
	grid := job.Env{Name: "hypergrid", Params: map[string]any{"dim": 2, "height": 8}}
	prior := job.Default()
	prior.Env = grid
	prior.Name, prior.Policy.Hidden, prior.Policy.Backward = "flows", []int{7, 3}, "uniform"
	prior.Loss.Objective = job.SubTB
	tuned := job.Default()
	tuned.Env = grid
	tuned.Name, tuned.Policy.Hidden, tuned.Policy.Backward = "tuned", []int{8}, "uniform"
	tuned.Loss.Prior = saved(t, newUpdater(t, prior))
	newUpdater(t, tuned)
}

// TestPriorOfTheSameSize: parameters of as many numbers and other shapes are no
// beginning for a job.
func TestPriorOfTheSameSize(t *testing.T) {
	// A hypergrid of 2 × 8 has 16 features and 3 actions, so one layer of width h
	// takes 16h+h+3h+3, and two of a and b take 16a+a+ab+b+3b+3.
	prior := job.Default()
	prior.Name, prior.Policy.Hidden, prior.Policy.Backward = "prior", []int{20}, "uniform"
	prior.Env = job.Env{Name: "hypergrid", Params: map[string]any{"dim": 2, "height": 8}}
	tuned := *prior
	tuned.Name, tuned.Policy.Hidden = "tuned", []int{14, 9}
	tuned.Seed = 7
	plain := newUpdater(t, &tuned)
	from := newUpdater(t, prior)
	if len(plain.Params()) != len(from.Params()) {
		t.Fatalf("%d and %d parameters", len(plain.Params()), len(from.Params()))
	}
	tuned.Loss.Prior = saved(t, from)
	if u := newUpdater(t, &tuned); !slices.Equal(u.Params(), plain.Params()) {
		t.Error("parameters of other shapes were taken over")
	}
}

// TestRehearsedTuningHasTheSameBits: the forward pass of a rollout is the job's, and
// the prior's is made from the same batch.
func TestRehearsedTuningHasTheSameBits(t *testing.T) {
	_, spec := tilting(t)
	plain := trained(t, spec, func(*paramserver.Updater, *sampler.Roller) {}, false)
	rehearsed := trained(t, spec, func(u *paramserver.Updater, r *sampler.Roller) { r.Rehearse(u.Tape()) }, true)
	if !slices.Equal(plain, rehearsed) {
		t.Error("other parameters after 20 updates")
	}
}
