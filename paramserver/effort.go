package paramserver

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// effort counts where a learner's time goes. Its own goroutine adds, others
// read; a nil *effort counts nothing.
type effort struct {
	update, batch, commit atomic.Int64 // nanoseconds
	window, answer        atomic.Int64 // nanoseconds, present values
	trained               atomic.Int64 // fresh trajectories
}

// lap adds the time since began to one of the counters of e.
func (l *Learner) lap(of func(*effort) *atomic.Int64, began time.Time) {
	if l.effort != nil {
		of(l.effort).Add(int64(l.Clock.Now().Sub(began)))
	}
}

func (e *effort) inUpdate() *atomic.Int64 { return &e.update }
func (e *effort) inBatch() *atomic.Int64  { return &e.batch }
func (e *effort) inCommit() *atomic.Int64 { return &e.commit }

// used notes what an update was made of.
func (e *effort) used(u *Update) {
	if e != nil {
		e.trained.Add(int64(u.Fresh))
	}
}

// windowed notes what the window is now.
func (e *effort) windowed(w *Window) {
	if e != nil {
		e.window.Store(int64(w.Length()))
		e.answer.Store(int64(w.smoothed))
	}
}

// workersSpent is the time of the workers that deliver to an intake.
type workersSpent struct {
	mu    sync.Mutex
	total wire.Spent
}

func (w *workersSpent) add(s *wire.Spent) {
	if s == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total.Add(*s)
}

func (w *workersSpent) read() wire.Spent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}

// efforts says where the time of the learners of this process, and of their
// workers, went, by job. It takes the locks of intakes, under which others read the
// replica: never call it while reading that.
func (s *Server) efforts() map[string]*wire.Effort {
	s.mu.Lock()
	here := make(map[string]running, len(s.learners))
	for id, r := range s.learners {
		if r.intake != nil {
			here[id] = running{intake: r.intake, effort: r.effort}
		}
	}
	s.mu.Unlock()
	out := make(map[string]*wire.Effort, len(here))
	for id, r := range here {
		out[id] = &wire.Effort{
			Update: time.Duration(r.effort.update.Load()), Batch: time.Duration(r.effort.batch.Load()), Commit: time.Duration(r.effort.commit.Load()),
			Workers: r.intake.spent.read(), Trained: uint64(r.effort.trained.Load()), Waiting: r.intake.Queue().Waiting,
			Window: time.Duration(r.effort.window.Load()), Answer: time.Duration(r.effort.answer.Load()),
		}
	}
	return out
}
