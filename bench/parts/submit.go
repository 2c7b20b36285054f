package parts

import (
	"context"
	"fmt"
	"time"

	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
)

// Submit gives a mesh a job and waits until it has a learner. It returns who
// leads, and the cluster's ID.
func Submit(ctx context.Context, rig *chaos.Rig, spec *job.Spec) (*chaos.Node, string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := rig.Voting(ctx); err != nil {
		return nil, "", err
	}
	data, err := spec.JSON()
	if err != nil {
		return nil, "", err
	}
	if err := rig.Submit(ctx, data); err != nil {
		return nil, "", err
	}
	for {
		lead, err := rig.Lead(ctx)
		if err != nil {
			return nil, "", err
		}
		reply, err := rig.Status(ctx, lead, spec.Name)
		if err == nil && len(reply.Jobs) == 1 && reply.Jobs[0].CommitEpoch > 0 {
			for _, n := range rig.Nodes() {
				if n.GRPC == reply.Jobs[0].LearnerAddr {
					return n, reply.ClusterID, nil
				}
			}
		}
		if err := clock.Rest(ctx, 20*time.Millisecond); err != nil {
			return nil, "", fmt.Errorf("job %s has no learner: %w", spec.Name, err)
		}
	}
}
