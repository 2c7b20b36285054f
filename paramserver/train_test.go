package paramserver_test

import (
	"math"
	"testing"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

func gridSpec(dim, height int) *job.Spec {
	spec := job.Default()
	spec.Name = "grid"
	spec.Env = job.Env{Name: "hypergrid", Params: map[string]any{"dim": dim, "height": height, "r0": 0.001}}
	spec.Train.Updates = 2000
	spec.Optimiser.LearningRate = schedule.Const(1e-3)
	return spec
}

// train runs n on-policy updates.
func train(t *testing.T, spec *job.Spec, n int) *paramserver.Updater {
	t.Helper()
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		t.Fatal(err)
	}
	roller, err := sampler.NewRoller(spec, 0)
	if err != nil {
		t.Fatal(err)
	}
	var batch []wire.Trajectory
	for range n {
		if batch, err = roller.SampleN(spec.Train.Batch, u.Params(), u.Version(), u.Trajectories()+1, batch); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Step(batch, nil); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// TestTrainingApproachesTheTarget, exactly measured.
func TestTrainingApproachesTheTarget(t *testing.T) {
	spec := gridSpec(2, 8)
	spec.Policy.Hidden = []int{64, 64}
	spec.Optimiser.LearningRate = schedule.Const(3e-3)
	u := train(t, spec, 600)
	p := u.Params()
	exact := u.Exact(t.Context())
	rep, err := exact.Model(u.Model.NewTape(), p[:len(p)-1])
	if err != nil {
		t.Fatal(err)
	}
	if tv := rep.Distances.TV; tv > 0.05 {
		t.Errorf("total variation %v after %d updates", tv, u.Version())
	}
	if math.Abs(u.LogZ()-exact.LogZ()) > 0.05 {
		t.Errorf("log Z is learned as %v, exact %v", u.LogZ(), exact.LogZ())
	}
	if found, total := u.ModesFound(); found != 4 || total != 4 {
		t.Errorf("%d of %d modes found, want 4 of 4", found, total)
	}
}
