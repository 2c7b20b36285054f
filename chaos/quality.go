package chaos

import (
	"context"
	"fmt"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver"
)

// Finished waits until a job has come to its end.
func (r *Rig) Finished(ctx context.Context, name string) error {
	for {
		lead, err := r.Lead(ctx)
		if err != nil {
			return err
		}
		if reply, err := r.Status(ctx, lead, name); err == nil && len(reply.Jobs) == 1 {
			switch j := reply.Jobs[0]; j.Status {
			case "finished":
				return nil
			case "failed", "paused":
				return fmt.Errorf("%w: job %s is %s: %s", ErrStuck, name, j.Status, j.Reason)
			}
		}
		if err := clock.Rest(ctx, lookEvery); err != nil {
			return fmt.Errorf("%w: job %s does not finish: %w", ErrStuck, name, err)
		}
	}
}

// Quality evaluates the committed state of a job exactly.
func (r *Rig) Quality(ctx context.Context, spec *job.Spec) (*metrics.Report, error) {
	reply, err := r.State(ctx, spec.Name)
	if err != nil {
		return nil, err
	}
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return nil, err
	}
	if err := u.Restore(reply.Info.Version, reply.Params, reply.Private); err != nil {
		return nil, err
	}
	p := u.Params()
	return u.Exact(ctx).Model(u.Model.NewTape(), p[:len(p)-1])
}
