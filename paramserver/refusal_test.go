package paramserver_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/paramserver"
)

// damaged returns trajectories that no environment of smallSpec allows.
func damaged() []wire.Trajectory {
	var out []wire.Trajectory
	for _, actions := range [][]int32{
		{},                    // never begins
		{0, 1},                // never ends
		{0, 0, 0, 0, 2},       // leaves the grid
		{0, 7, 2},             // no such action
		{2, 2},                // goes on after the end
		make([]int32, 10_000), // longer than any
	} {
		out = append(out, wire.Trajectory{Session: "hostile", Seq: uint64(len(out) + 1), Actions: actions})
	}
	return out
}

// TestIllegalTrajectoriesAreWithdrawn wherever they are in a batch, and the
// update is the one of the others.
func TestIllegalTrajectoriesAreWithdrawn(t *testing.T) {
	spec := smallSpec()
	clean, u := newUpdater(t, spec), newUpdater(t, spec)
	good := sampled(t, u, 16)
	mustStep(t, clean, slices.Clone(good))

	bad := damaged()
	mixed := []wire.Trajectory{bad[0], bad[1]}
	mixed = append(mixed, good[:5]...)
	mixed = append(mixed, bad[2])
	mixed = append(mixed, good[5:]...)
	mixed = append(mixed, bad[3:]...)
	var refused []uint64
	update, err := u.Step(mixed, func(tr *wire.Trajectory, why error) {
		if tr.Session != "hostile" || why == nil {
			t.Errorf("trajectory %d of %q refused: %v", tr.Seq, tr.Session, why)
		}
		refused = append(refused, tr.Seq)
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(refused)
	if !slices.Equal(refused, []uint64{1, 2, 3, 4, 5, 6}) || update.Refused != 6 || len(update.Batch) != 16 || update.Trajectories != 16 {
		t.Errorf("refused %v, the update counts %d refused, %d trained on", refused, update.Refused, len(update.Batch))
	}
	if !bytes.Equal(state(t, u), state(t, clean)) {
		t.Error("the update is not that of the good trajectories")
	}
	// The caller's slice still holds each trajectory once: its buffers may be reused.
	seen := map[*int32]bool{}
	for _, tr := range mixed {
		if len(tr.Actions) == 0 {
			continue
		}
		if seen[&tr.Actions[0]] {
			t.Fatal("two rows of the batch share their actions")
		}
		seen[&tr.Actions[0]] = true
	}
}

// TestNothingLeftToTrainOn: a batch that shrinks to nothing, or below what the
// normaliser needs, is withdrawn whole; the state is as it was.
func TestNothingLeftToTrainOn(t *testing.T) {
	for name, c := range map[string]struct {
		normaliser string
		good       int
	}{
		"none":               {"learned", 0},
		"too few of a group": {"batch_optimal", 3},
		"one of a pair":      {"leave_one_out", 1},
	} {
		t.Run(name, func(t *testing.T) {
			spec := smallSpec()
			spec.Loss.Normaliser = c.normaliser
			u := newUpdater(t, spec)
			before := state(t, u)
			batch := append(sampled(t, u, 16)[:c.good], damaged()...)
			count := 0
			_, err := u.Step(batch, func(*wire.Trajectory, error) { count++ })
			if !errors.Is(err, paramserver.ErrNoBatch) {
				t.Fatalf("got %v, want ErrNoBatch", err)
			}
			if count != len(batch) || u.Version() != 0 || !bytes.Equal(before, state(t, u)) {
				t.Errorf("%d of %d refused, version %d", count, len(batch), u.Version())
			}
		})
	}
}

// TestNonFiniteScoresReachNoLoss: an error, and the state is as it was, the
// running normaliser included.
func TestNonFiniteScoresReachNoLoss(t *testing.T) {
	for name, spoil := range map[string]func(*wire.Trajectory){
		"NaN reward":         func(tr *wire.Trajectory) { tr.LogReward = math.NaN() },
		"infinite reward":    func(tr *wire.Trajectory) { tr.LogReward = math.Inf(1) },
		"no reward":          func(tr *wire.Trajectory) { tr.LogReward = math.Inf(-1) },
		"impossible":         func(tr *wire.Trajectory) { tr.LogBehaviour = math.Inf(-1) },
		"gradient overflows": func(tr *wire.Trajectory) { tr.LogReward = -1e5 },
	} {
		t.Run(name, func(t *testing.T) {
			spec := smallSpec()
			spec.Loss.Divergence, spec.Loss.Normaliser = "neyman_chi2", "running"
			u := newUpdater(t, spec)
			mustStep(t, u, sampled(t, u, 16))
			before := state(t, u)
			batch := sampled(t, u, 16)
			spoil(&batch[3])
			if _, err := u.Step(batch, noRefusal(t)); err == nil {
				t.Fatal("a step was taken")
			} else if name != "gradient overflows" && !errors.Is(err, losses.ErrNonFinite) {
				t.Errorf("got %v, want ErrNonFinite", err)
			}
			if !bytes.Equal(before, state(t, u)) {
				t.Error("the state has changed")
			}
		})
	}
}
