package paramserver

import (
	"unsafe"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// QueueStats are the numbers of a learner's queue.
type QueueStats struct {
	Waiting  int    // trajectories
	Bytes    int64  // they take in memory
	Sessions int    // with a stream now
	Credits  uint64 // trajectories that workers may still send
}

// Stats counts what is in the queue now.
func (a *Admission) Stats() QueueStats {
	out := QueueStats{Waiting: a.Waiting()}
	for i := range a.queue[a.head:] {
		t := &a.queue[a.head+i]
		out.Bytes += int64(unsafe.Sizeof(wire.Trajectory{})) + int64(len(t.Actions))*int64(unsafe.Sizeof(t.Actions[0]))
	}
	for _, s := range a.sessions {
		if s.streams > 0 {
			out.Sessions++
		}
		out.Credits += s.credit - min(s.credit, s.next-1)
	}
	return out
}

// Queue counts what waits in the intake now.
func (in *Intake) Queue() QueueStats {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.queue.Stats()
}
