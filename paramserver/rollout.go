package paramserver

import (
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// checkRollout refuses rollouts of points that no message holds: a worker sends one
// at once, and each step is as many words as there are coordinates.
func checkRollout(spec *job.Spec, env *envs.Spec) error {
	if !env.Continuous() {
		return nil
	}
	const columns = 64 // bytes of a trajectory beside its actions, at most
	each := 4*env.MaxSteps*env.ActionDim + columns
	if most := wire.MaxFrame / each; spec.Mesh.Rollout > most {
		return fielderr.New("mesh.rollout", spec.Mesh.Rollout, fmt.Sprintf(
			"at most %d: a trajectory of %s takes %d bytes, a message %d MiB", most, env.Name, each, wire.MaxFrame>>20))
	}
	return nil
}
