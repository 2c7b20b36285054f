package paramserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/nice"
	"github.com/driftmesh/driftmesh/internal/telemetry"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// running is a learner of this process. intake is nil while it is being built,
// and is read under Server.mu.
type running struct {
	epoch  uint64
	intake *Intake
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended,
	err    error         // for this reason
}

// failure is what a job's learners failed with lately.
type failure struct {
	count   int       // in a row: without a committed version in between
	version uint64    // committed at the last one
	retry   time.Time // not before
}

const (
	// maxFailures in a row pause the job.
	maxFailures = 3
	// firstRetry is the pause after a failure; it doubles.
	firstRetry = 200 * time.Millisecond
	// learnerNice keeps training behind elections and commits, and before
	// sampling, which workers do at 10.
	learnerNice = 5
)

// startLearners runs a learner for each job whose current epoch this process
// holds, and ends those whose epoch is over.
func (s *Server) startLearners(ctx context.Context) {
	jobs := s.jobs()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range jobs {
		r := s.learners[j.ID]
		if r != nil && (r.epoch != j.Epoch || j.Status == fsm.Stopped || j.Status == fsm.Paused || j.Status == fsm.Failed) {
			r.cancel()
			continue // its goroutine removes it and wakes us
		}
		if r != nil || j.Status != fsm.Running || j.Learner != s.Node || s.granted[j.ID] != j.Epoch {
			continue
		}
		lctx, cancel := context.WithCancel(ctx)
		r = &running{epoch: j.Epoch, cancel: cancel, done: make(chan struct{})}
		s.learners[j.ID] = r
		s.loops.Go(func() {
			defer s.poke()
			defer close(r.done)
			defer cancel()
			r.err = s.learn(lctx, j, r)
			s.ended(ctx, j, r)
		})
	}
}

// learn builds the learner of a job and runs it to its end.
func (s *Server) learn(ctx context.Context, j *fsm.Job, r *running) error {
	logger := s.Logger.With("job", j.ID, "epoch", j.Epoch)
	if err := nice.Goroutine(learnerNice); err != nil {
		logger.Debug("priority not lowered", "error", err)
	}
	spec, err := job.FromJSON(j.Spec)
	if err != nil {
		return err
	}
	u, err := NewUpdater(spec)
	if err != nil {
		return err
	}
	if j.HasState {
		if err := u.Restore(j.Version, j.Params, j.Private); err != nil {
			return fmt.Errorf("version %d: %w", j.Version, err)
		}
		logger.Info("learner resumes", "version", j.Version)
		s.refill(ctx, j, u, logger)
	}
	queue := NewAdmission(spec.Mesh.ReplayMax, spec.Mesh.Rollout, BoundsOf(spec.Mesh))
	if bounds := BoundsOf(spec.Mesh); bounds.Act() {
		u.TrackBias(func(session string) (worker string) {
			s.Replica.Read(func(st *fsm.State) {
				if open, ok := st.Session(j.ID, session); ok {
					worker = open.Worker
				}
			})
			return worker
		})
		queue.OnStale = u.Dropped
	}
	intake := NewIntake(queue, u.Fresh, s.Clock, logger)
	s.mu.Lock()
	r.intake = intake
	h := s.hub(j.ID)
	s.mu.Unlock()
	defer intake.Close()

	ev := newEvaluator(spec, u, h, s.Clock, s.members, logger)
	ev.ages.committed(j.Version, j.Committed)
	intake.Committed(j.Version, j.Committed)
	log := &raftLog{replica: s.Replica, logger: logger}
	l := &Learner{
		Lease:     Lease{Job: j.ID, Generation: j.Generation, Epoch: j.Epoch},
		Updater:   u,
		Feed:      intake,
		Log:       log,
		Clock:     s.Clock,
		Logger:    logger,
		Committed: j.HasState,
		Updates:   spec.Train.Updates,
		MinWindow: time.Duration(spec.Mesh.WindowMS) * time.Millisecond,
		OnUpdate:  ev.updated,
		OnPropose: func(c *fsm.Commit) {
			s.Journal.Write(journal.Entry{Kind: journal.Proposed, Job: c.Job, Node: s.Node, Generation: c.Generation, Epoch: c.Epoch, Version: c.Version})
			ev.proposed(c)
		},
		OnCommit: func(c *fsm.Commit, took time.Duration) {
			s.Journal.Write(journal.Entry{Kind: journal.Committed, Job: c.Job, Node: s.Node, Generation: c.Generation, Epoch: c.Epoch, Version: c.Version})
			s.Mesh.AnnounceVersion(c.Job, wire.Position{Generation: c.Generation, Version: c.Version})
			ev.committed(c, took)
		},
	}
	evCtx, stop := context.WithCancel(context.WithoutCancel(ctx)) // the last commits get their rows
	var evaluating sync.WaitGroup
	evaluating.Go(func() {
		nice.Goroutine(learnerNice) // as above
		ev.run(evCtx)
	})
	unmeasure := s.measure(l, intake, ev.ages)
	err = l.Run(ctx)
	unmeasure()
	stop()
	s.Journal.Write(journal.Entry{Kind: journal.Ended, Job: j.ID, Node: s.Node, Epoch: j.Epoch, Detail: fmt.Sprint(err)})
	evaluating.Wait()
	log.waiting.Wait()
	return err
}

// refill fills the replay buffer of a learner that goes on where another ended,
// and says what replay lost.
func (s *Server) refill(ctx context.Context, j *fsm.Job, u *Updater, logger *slog.Logger) {
	var src ObjectSource
	if s.Objects != nil {
		src = s.Objects(j)
	}
	got, err := u.Refill(ctx, src)
	if err != nil {
		logger.Warn("replay buffer is not complete", "error", err)
	}
	if got.Needed {
		logger.Warn("replay buffer lost with the last learner", "version", j.Version, "filled_from", got.From, "objects", got.Objects, "unread", got.Unread)
	}
}

// ended records how a learner came to its end.
func (s *Server) ended(ctx context.Context, j *fsm.Job, r *running) {
	s.mu.Lock()
	delete(s.learners, j.ID)
	if s.granted[j.ID] == r.epoch {
		delete(s.granted, j.ID) // a new run needs a new epoch
	}
	defer s.hub(j.ID).wake() // watchers wait for this end
	// Exactly the end of its context: a last commit that failed besides is a failure.
	clean := r.err == nil || r.err == context.Canceled || errors.Is(r.err, ErrFenced)
	f := s.failures[j.ID]
	if now := s.job(j.ID); clean || now != nil && now.Version > f.version {
		f = failure{}
	}
	if clean {
		delete(s.failures, j.ID)
		s.mu.Unlock()
		if r.err != nil && ctx.Err() == nil {
			s.Logger.Info("learner ended", "job", j.ID, "epoch", r.epoch, "reason", r.err)
		}
		return
	}
	f.count++
	f.retry = s.Clock.Now().Add(firstRetry << f.count)
	if now := s.job(j.ID); now != nil {
		f.version = now.Version
	}
	s.failures[j.ID] = f
	s.mu.Unlock()
	s.Telemetry.Add(telemetry.Rollbacks, 1, j.ID)
	s.Logger.Error("learner failed", "job", j.ID, "epoch", r.epoch, "failures", f.count, "error", r.err)
	if f.count >= maxFailures && ctx.Err() == nil {
		s.pause(ctx, j.ID, r)
	}
}

// pause gives up on a job whose learner fails again and again: its committed
// state is kept, and it may be resumed.
func (s *Server) pause(ctx context.Context, jobID string, r *running) {
	if now := s.job(jobID); now == nil || now.Epoch != r.epoch || now.Status != fsm.Running {
		return // somebody else's by now
	}
	reason := fmt.Sprintf("the learner failed %d times in a row: %v", maxFailures, r.err)
	cmd := &fsm.SetStatus{Job: jobID, Status: fsm.Paused, Reason: reason[:min(len(reason), fsm.MaxReason)], Fence: true, Stamp: s.Clock.Now().UnixNano()}
	if _, err := s.Replica.Apply(ctx, cmd); err != nil {
		s.Logger.Error("job not paused", "job", jobID, "error", err)
	}
	s.mu.Lock()
	delete(s.failures, jobID) // a resumed job starts afresh
	s.mu.Unlock()
}

// hub returns the reports of a job; s.mu is held.
func (s *Server) hub(jobID string) *hub {
	h := s.hubs[jobID]
	if h == nil {
		h = newHub()
		s.hubs[jobID] = h
	}
	return h
}

func (s *Server) stopLearners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.learners {
		r.cancel()
	}
}

// drain ends the local learner of a job, so that its open window is committed,
// and keeps the job from being granted again until release is called. The error
// says that the last commit did not get in.
func (s *Server) drain(ctx context.Context, jobID string) (release func(), err error) {
	s.mu.Lock()
	s.draining[jobID]++
	r := s.learners[jobID]
	s.mu.Unlock()
	release = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.draining[jobID]--; s.draining[jobID] == 0 {
			delete(s.draining, jobID)
		}
	}
	if r == nil {
		return release, nil
	}
	r.cancel()
	select {
	case <-r.done:
	case <-ctx.Done():
		return release, ctx.Err()
	}
	if r.err != nil && r.err != context.Canceled && !errors.Is(r.err, ErrFenced) {
		return release, r.err
	}
	return release, nil
}

// raftLog is the Log of a learner: it makes every answer definite.
type raftLog struct {
	replica *replica.Replica
	logger  *slog.Logger
	waiting sync.WaitGroup // for answers; the learner's run waits for it
	last    chan struct{}  // closed when the commit before is answered
}

// Commit implements Log. The answer to a commit whose fate is unknown is found
// by proposing the same bytes again, in order, for as long as this node leads:
// if they got in, the state machine says so. A node that leads no longer takes
// it for a fence: the next leader grants the job anew.
func (l *raftLog) Commit(ctx context.Context, c *fsm.Commit) (<-chan Answer, error) {
	out := make(chan Answer, 1)
	before, answered := l.last, make(chan struct{})
	l.last = answered
	future := l.replica.ApplyAsync(c)
	l.waiting.Go(func() {
		defer close(answered)
		res, err := future.Wait(ctx)
		if errors.Is(err, replica.ErrUnknown) && before != nil {
			<-before
		}
		for errors.Is(err, replica.ErrUnknown) && ctx.Err() == nil {
			l.logger.Warn("commit outcome unknown, proposing the same bytes again", "version", c.Version, "error", err)
			res, err = l.replica.Apply(ctx, c)
		}
		if errors.Is(err, replica.ErrNotLeader) {
			res, err = fsm.Result{Outcome: fsm.Fenced}, nil
		}
		out <- Answer{res, err}
	})
	return out, nil
}

var _ Log = (*raftLog)(nil)
