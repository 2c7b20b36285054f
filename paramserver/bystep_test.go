package paramserver_test

import (
	"context"
	"testing"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/sampler"
)

// byStep supplies batches by step: what an update gets is a function of the
// seed, the number of the step, and the parameters before it.
type byStep struct {
	roller  *sampler.Roller
	fresh   func() int
	trained func() uint64
	before  func(version uint64) // when set, called before each batch
	batch   []wire.Trajectory
}

func newByStep(t testing.TB, spec *job.Spec) *byStep { return &byStep{roller: newRoller(t, spec)} }

// at returns n trajectories for the update from version, numbered on from trained.
func (f *byStep) at(n int, params []float32, version, trained uint64) (_ []wire.Trajectory, err error) {
	f.batch, err = f.roller.SampleN(n, params, version, trained+1, f.batch)
	return f.batch, err
}

// Next implements paramserver.Feed.
func (f *byStep) Next(ctx context.Context, version uint64, params []float32) ([]wire.Trajectory, error) {
	if f.before != nil {
		f.before(version)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return f.at(f.fresh(), params, version, f.trained())
}

// Refuse implements paramserver.Feed.
func (f *byStep) Refuse(*wire.Trajectory, error) {}

// Marks implements paramserver.Feed.
func (f *byStep) Marks() []fsm.Mark { return nil }
