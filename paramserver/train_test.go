package paramserver_test

import (
	"testing"
	"time"

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

func TestTrainingApproachesTheTarget(t *testing.T) {
	t0 := time.Now()
	u := train(t, gridSpec(2, 8), 1000)
	t.Log(time.Since(t0))
	p := u.Params()
	rep, err := u.Exact().Model(u.Model.NewTape(), p[:len(p)-1])
	if err != nil {
		t.Fatal(err)
	}
	t.Log(rep.Distances, u.LogZ(), rep.LogZ)
}
