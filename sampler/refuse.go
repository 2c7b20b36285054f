package sampler

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/plugin"
)

// Within makes what the Roller asks of other programs end with ctx.
func (r *Roller) Within(ctx context.Context) { r.ctx = ctx }

// Refuse makes trajectories whose object has no reward part of a batch all the
// same, with a log-reward of NaN: a learner refuses and counts them. told hears
// of every batch with such. Without it they are errors of Sample.
func (r *Roller) Refuse(told func(*envs.RewardFaults)) { r.refuse = told }

// judge says what becomes of a batch whose rewards came with an error.
func (r *Roller) judge(err error) (refused bool, _ error) {
	if err == nil || r.refuse == nil {
		return false, err
	}
	var faults *envs.RewardFaults
	if !errors.As(err, &faults) {
		return false, err
	}
	r.refuse(faults)
	return true, nil
}

// faultsEvery is the shortest time between two lines about objects without a reward.
const faultsEvery = 10 * time.Second

// tellFaults logs of objects without a reward once in a while, with their number.
func tellFaults(logger *slog.Logger) func(*envs.RewardFaults) {
	var told time.Time
	untold := 0
	return func(f *envs.RewardFaults) {
		if untold += len(f.Index); time.Since(told) < faultsEvery {
			return
		}
		logger.Warn("objects without a reward: the learner refuses their trajectories", "count", untold, "error", f.Errs[0])
		told, untold = time.Now(), 0
	}
}

// The pause after a program that does not answer, however often it is started.
const (
	firstFailure = time.Second
	lastFailure  = time.Minute
)

// failing is a program that did not answer: the slot asks again, for the same
// sequence numbers, and has sent nothing of them.
type failing struct{ pause time.Duration }

// after says whether the slot should wait and try again.
func (f *failing) after(ctx context.Context, err error, logger *slog.Logger) bool {
	if !errors.Is(err, plugin.ErrFailed) || ctx.Err() != nil {
		return false
	}
	f.pause = min(max(firstFailure, 2*f.pause), lastFailure)
	logger.Warn("no reward or state: asking again later", "pause", f.pause, "error", err)
	return pause(ctx, f.pause) == nil
}

// answered ends the pauses.
func (f *failing) answered() { f.pause = 0 }
