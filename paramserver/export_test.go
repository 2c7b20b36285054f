package paramserver

import (
	"context"
	"log/slog"
	"sync"

	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// NewRaftLog is the log of a learner on the leader; stop ends it.
func NewRaftLog(r *replica.Replica, logger *slog.Logger) (_ Log, stop func()) {
	u := newUplink(r, nil, nil, logger)
	ctx, cancel := context.WithCancel(context.Background())
	var carrying sync.WaitGroup
	carrying.Go(func() { u.run(ctx) })
	return u, func() {
		cancel()
		carrying.Wait()
	}
}
