package sampler

import (
	"context"
	"time"

	"github.com/driftmesh/driftmesh/internal/job"
)

// AwaitReward sleeps as long as the job says that the rewards of n trajectories
// take, one after the other, as a reward that is called once per object would.
// Environments stay pure: they know no clock. It returns ctx's error if that
// ends first.
func AwaitReward(ctx context.Context, s job.Sampling, n int) error {
	d := s.RewardDelay()
	if d <= 0 || n <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for left := n; ; t.Reset(d) {
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if left--; left == 0 {
			return nil
		}
	}
}
