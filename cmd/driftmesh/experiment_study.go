package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/paramserver"
)

// trainOutcome trains a job in this process on one core, keeping nothing on
// disk, and returns the exact distribution that it learned: what computations
// that compare with quadrature train with. It gives the bits that `train` gives.
func trainOutcome(ctx context.Context, spec *job.Spec) ([]float64, error) {
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return nil, err
	}
	exact := u.Exact(ctx)
	if exact == nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fielderr.New("env", spec.Env.Name, "an environment small enough for exact evaluation")
	}
	r, err := newLocalRun(ctx, spec, u)
	if err != nil {
		return nil, err
	}
	if err := r.train(ctx); err != nil {
		for _, d := range diverged {
			if errors.Is(err, d) {
				return nil, fmt.Errorf("%w at update %d: %w", experiment.ErrDiverged, u.Version(), err)
			}
		}
		return nil, err
	}
	p := u.Params()
	return exact.Distribution(u.Model.NewTape(), p[:len(p)-1])
}
