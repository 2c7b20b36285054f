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

// effort says where the time of a job's learner and its workers went, if that
// learner is here.
func (s *Server) effort(job string, stale uint64) *wire.Effort {
	s.mu.Lock()
	var e *effort
	var in *Intake
	if r := s.learners[job]; r != nil {
		e, in = r.effort, r.intake
	}
	s.mu.Unlock()
	if e == nil || in == nil {
		return nil
	}
	return &wire.Effort{
		Update: time.Duration(e.update.Load()), Batch: time.Duration(e.batch.Load()), Commit: time.Duration(e.commit.Load()),
		Workers: in.spent.read(), Trained: uint64(e.trained.Load()), Stale: stale, Waiting: in.Queue().Waiting,
		Window: time.Duration(e.window.Load()), Answer: time.Duration(e.answer.Load()),
	}
}
