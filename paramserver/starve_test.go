package paramserver_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestStarvedLearnerCommits: a worker whose outbox is full sends nothing until
// a mark covers what it sent. A learner that waited for its next batch with the
// window open would wait for ever.
func TestStarvedLearnerCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 100, 20*stepTime)
		b.feed.last = 3
		ctx, stop := context.WithCancel(t.Context())
		done := b.start(ctx)
		elapse(3 * stepTime)
		if n := b.log.proposed(); n != 1 || b.updates.Load() != 3 {
			t.Errorf("%d commits after %d updates, before the window is full", n, b.updates.Load())
		}
		elapse(20 * stepTime)
		if j := b.log.job(); j.Version != 3 || j.Admitted != 3*batchSize {
			t.Errorf("version %d is committed with %d trajectories, want 3 and %d", j.Version, j.Admitted, 3*batchSize)
		}
		elapse(time.Hour)
		if n := b.log.proposed(); n != 2 {
			t.Errorf("%d commits of nothing new", n-2)
		}
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
