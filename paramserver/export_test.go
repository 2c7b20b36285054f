package paramserver

import (
	"log/slog"

	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// NewRaftLog is the log of a learner in the mesh; wait returns once no answer is
// waited for.
func NewRaftLog(r *replica.Replica, logger *slog.Logger) (_ Log, wait func()) {
	l := &raftLog{replica: r, logger: logger}
	return l, l.waiting.Wait
}
