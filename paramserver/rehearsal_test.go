package paramserver_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/internal/cores"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/sampler"
)

// An update that finds the forward pass of its batch on the tape is, bit for bit,
// the one that scores the batch itself; and so it is with two cores.
func TestRehearsedUpdatesHaveTheSameBits(t *testing.T) {
	for _, backward := range []string{"joint", "uniform", "frozen"} {
		t.Run(backward, func(t *testing.T) {
			spec := gridSpec(3, 6)
			spec.Policy.Backward = backward
			spec.Policy.Hidden = []int{48, 40}
			spec.Train.Batch = 96
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
		})
	}
}

// trained makes 20 on-policy updates and returns the parameters.
func trained(t *testing.T, spec *job.Spec, set func(*paramserver.Updater, *sampler.Roller), rehearse bool) []float32 {
	t.Helper()
	u := newUpdater(t, spec)
	roller := newRoller(t, spec)
	set(u, roller)
	var batch []wire.Trajectory
	for range 20 {
		var err error
		if batch, err = roller.SampleN(spec.Train.Batch, u.Params(), u.Version(), u.Trajectories()+1, batch); err != nil {
			t.Fatal(err)
		}
		if rehearse {
			u.Rehearsed(roller.Pass())
		}
		if _, err := u.Step(batch, nil); err != nil {
			t.Fatal(err)
		}
	}
	return slices.Clone(u.Params())
}

// A rollout notes the very batch that its actions, replayed, would give.
func TestRolloutsAndReplaysAgree(t *testing.T) {
	spec := gridSpec(3, 5)
	u, roller := newUpdater(t, spec), newRoller(t, spec)
	roller.Rehearse(u.Tape())
	var asm = policy.NewAssembler(u.Env)
	for n := range 5 {
		sampled, err := roller.SampleN(40, u.Params(), 0, uint64(40*n+1), nil)
		if err != nil {
			t.Fatal(err)
		}
		actions := make([][]int32, len(sampled))
		for i := range sampled {
			actions[i] = sampled[i].Actions
		}
		var replayed policy.Batch
		if err := asm.Assemble(actions, &replayed); err != nil {
			t.Fatal(err)
		}
		if got := roller.Pass().Batch; !reflect.DeepEqual(*got, replayed) {
			t.Fatalf("rollout %d: %+v, replayed: %+v", n, *got, replayed)
		}
	}
}

// A pass of other trajectories, or of other parameters, is not used.
func TestForeignPassesAreNotUsed(t *testing.T) {
	spec := gridSpec(2, 6)
	want := trained(t, spec, func(*paramserver.Updater, *sampler.Roller) {}, false)
	u, roller, other := newUpdater(t, spec), newRoller(t, spec), newRoller(t, spec)
	other.Rehearse(u.Tape())
	for range 20 {
		if _, err := other.SampleN(spec.Train.Batch, u.Params(), u.Version(), 1<<40, nil); err != nil {
			t.Fatal(err)
		}
		u.Rehearsed(other.Pass())
		batch, err := roller.SampleN(spec.Train.Batch, u.Params(), u.Version(), u.Trajectories()+1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Step(batch, nil); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(u.Params(), want) {
		t.Error("a foreign pass changed an update")
	}
}
