package sampler

import (
	"sync/atomic"
	"time"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// spent counts where the time of a slot goes, in nanoseconds.
type spent struct{ sampling, reward, credit, marks, parameters atomic.Int64 }

// Spent says where the slot's time went so far, over all jobs.
func (w *Worker) Spent() wire.Spent {
	read := func(n *atomic.Int64) time.Duration { return time.Duration(n.Load()) }
	return wire.Spent{
		Sampling: read(&w.spent.sampling), Reward: read(&w.spent.reward),
		Credit: read(&w.spent.credit), Marks: read(&w.spent.marks), Parameters: read(&w.spent.parameters),
	}
}

// stopwatch tells the parts of a loop apart.
type stopwatch struct{ at time.Time }

// lap adds the time since the last lap to n.
func (s *stopwatch) lap(n *atomic.Int64) {
	now := time.Now()
	n.Add(int64(now.Sub(s.at)))
	s.at = now
}
