package paramserver_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/cores"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

func pointSpec() *job.Spec {
	spec := job.Default()
	spec.Name = "points"
	spec.Env = job.Env{Name: "diffusion", Params: map[string]any{"target": "manywell", "dim": 2, "steps": 10, "sigma": 1.0}}
	spec.Policy = job.Policy{Kind: "gaussian", Hidden: []int{32}, Activation: "tanh", Backward: "uniform"}
	spec.Optimiser.LearningRate = schedule.Const(3e-3)
	spec.Train.Batch, spec.Mesh.ReplayMax = 96, 400
	spec.Loss.LogZInit = 10
	return spec
}

// TestRehearsedPointsHaveTheSameBits, with two cores and without replaying.
func TestRehearsedPointsHaveTheSameBits(t *testing.T) {
	spec := pointSpec()
	plain := trained(t, spec, func(*paramserver.Updater, *sampler.Roller) {}, false)
	team := cores.New(2)
	defer team.Close()
	rehearsed := trained(t, spec, func(u *paramserver.Updater, r *sampler.Roller) {
		u.Share(team)
		r.Rehearse(u.Tape())
	}, true)
	if !slices.Equal(plain, rehearsed) {
		t.Error("other parameters after 20 updates")
	}
}

// TestPointsLearn: the double well in the plane, whose log Z is known.
func TestPointsLearn(t *testing.T) {
	spec := pointSpec()
	spec.Loss.Divergence = "forward_kl,tail:5"
	u, roller := newUpdater(t, spec), newRoller(t, spec)
	roller.Rehearse(u.Tape())
	truth := *envs.FactsOf(u.Env).LogZ
	spec.Eval.Samples = 2000
	before := float64(estimate(t, u).EUBO.Value) - truth
	var batch []wire.Trajectory
	for range 400 {
		var err error
		if batch, err = roller.SampleN(spec.Train.Batch, u.Params(), u.Version(), u.Trajectories()+1, batch); err != nil {
			t.Fatal(err)
		}
		u.Rehearsed(roller.Pass())
		if _, err := u.Step(batch, nil); err != nil {
			t.Fatal(err)
		}
	}
	found := estimate(t, u)
	if after := float64(found.EUBO.Value) - truth; after > before/2 || math.Abs(u.LogZ()-truth) > 0.3 {
		t.Errorf("the upper bound is %v too high, %v before; learned log Z %v, true %v", after, before, u.LogZ(), truth)
	}
	if is := found.LogZ; math.Abs(float64(is.Value)-truth) > 0.15 {
		t.Errorf("log Z %+v by importance sampling, true %v", is, truth)
	}
	if found.Sinkhorn == nil {
		t.Error("no distance from draws of the target")
	}
}

// TestBridges: trajectories that are sampled backward from objects have the
// Brownian bridge's distribution half way: N(x/2, σ²/4).
func TestBridges(t *testing.T) {
	u := newUpdater(t, pointSpec())
	batch, err := u.DrawTarget(rng.New(1, rng.Evaluate), 3, 20000)
	if err != nil {
		t.Fatal(err)
	}
	mean, second := 0.0, 0.0
	for _, tr := range batch {
		half, end := tr.Actions[4*2:5*2], tr.Actions[9*2:10*2] // after 5 and 10 steps
		for j := range 2 {
			d := float64(envs.Coordinate(half[j])) - float64(envs.Coordinate(end[j]))/2
			mean += d / float64(2*len(batch))
			second += d * d / float64(2*len(batch))
		}
	}
	if math.Abs(mean) > 0.01 || math.Abs(second/0.25-1) > 0.03 {
		t.Errorf("half way: mean %v, variance %v beside the bridge's 0 and 0.25", mean, second)
	}
}

// TestPointsAreReplayed: buffers keep objects of a space, and updates train on them
// again.
func TestPointsAreReplayed(t *testing.T) {
	spec := pointSpec()
	spec.Replay.Kind = "reward"
	u, roller := newUpdater(t, spec), newRoller(t, spec)
	for range 5 {
		batch, err := roller.SampleN(u.Fresh(), u.Params(), u.Version(), u.Trajectories()+1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Step(batch, nil); err != nil {
			t.Fatal(err)
		}
	}
	if u.Replayed() == 0 || u.Buffer().Len() == 0 {
		t.Errorf("%d replayed, %d in the buffer", u.Replayed(), u.Buffer().Len())
	}
	spec.Replay.Kind = "diverse"
	if _, err := paramserver.NewUpdater(spec); err == nil {
		t.Error("a buffer that compares sparse features is taken for points, which have none")
	}
}

// TestRolloutsThatNoMessageHolds are refused when the job is read.
func TestRolloutsThatNoMessageHolds(t *testing.T) {
	spec := pointSpec()
	spec.Env.Params = map[string]any{"target": "manywell", "steps": 1000, "sigma": 1.0}
	spec.Mesh.Rollout = 524
	if _, _, err := paramserver.Check(spec); err != nil {
		t.Error(err)
	}
	spec.Mesh.Rollout = 525
	_, _, err := paramserver.Check(spec)
	var fault *fielderr.Error
	if !errors.As(err, &fault) || fault.Path != "mesh.rollout" {
		t.Errorf("%v", err)
	}
}
