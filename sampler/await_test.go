package sampler_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/sampler"
)

// TestRewardDelay: one sleep per trajectory, none where the job asks for none,
// and an end of the context is noticed within a sleep.
func TestRewardDelay(t *testing.T) {
	for _, c := range []struct {
		ms   float64
		n    int
		want time.Duration
	}{{0, 16, 0}, {10, 1, 10 * time.Millisecond}, {10, 16, 160 * time.Millisecond}, {0.25, 4, time.Millisecond}, {10, 0, 0}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			if err := sampler.AwaitReward(t.Context(), job.Sampling{RewardDelayMS: c.ms}, c.n); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(began); got != c.want {
				t.Errorf("%v ms for %d trajectories: slept %v, want %v", c.ms, c.n, got, c.want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := sampler.AwaitReward(ctx, job.Sampling{RewardDelayMS: 10}, 1000); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 25*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
