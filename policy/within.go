package policy

import (
	"context"

	"github.com/driftmesh/driftmesh/envs"
)

// Within makes what the Assembler's environment asks of other programs end with ctx,
// from now on.
func (a *Assembler) Within(ctx context.Context) {
	a.ctx = ctx
	if a.states != nil {
		envs.Within(ctx, a.states)
	}
	if p := a.trace.parents; p != nil {
		envs.Within(ctx, p.states)
	}
}
