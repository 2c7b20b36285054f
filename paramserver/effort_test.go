package paramserver_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
)

// TestEffortOfALearner: the time of a learner whose batches take time and whose
// log stands still is told apart, and adds up.
func TestEffortOfALearner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 300, 5*stepTime)
		update, batch, commit := paramserver.Watched(b.Learner)
		gate := make(chan struct{})
		b.log.hold = func(n int) <-chan struct{} {
			if n < 2 {
				return gate
			}
			return nil
		}
		began := time.Now()
		done := b.start(t.Context())
		elapse(time.Minute) // two windows are in flight, the third is full
		close(gate)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		total := time.Since(began)
		if got := batch(); got < 300*stepTime-paramserver.MaxWindow || got > 310*stepTime {
			t.Errorf("waited %v for 300 batches of %v", got, stepTime)
		}
		if got := commit(); got < 55*time.Second || got > time.Minute {
			t.Errorf("waited %v for a log that stood still for a minute", got)
		}
		if sum := update() + batch() + commit(); sum > total || sum < total-10*stepTime {
			t.Errorf("%v of %v is told: update %v, batch %v, commit %v", sum, total, update(), batch(), commit())
		}
	})
}

// TestSpentOfWorkers: a slot that tells of negative time turns nothing back.
func TestSpentOfWorkers(t *testing.T) {
	var s wire.Spent
	s.Add(wire.Spent{Sampling: 3, Reward: 4, Credit: 5})
	s.Add(wire.Spent{Sampling: -3, Reward: 1, Marks: 2, Parameters: -9})
	if want := (wire.Spent{Sampling: 3, Reward: 5, Credit: 5, Marks: 2}); s != want || s.Total() != 15 || s.Sub(want) != (wire.Spent{}) {
		t.Errorf("%+v, want %+v", s, want)
	}
}
