package paramserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/cores"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/nice"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// running is a learner of this process. intake is nil while it is being built,
// and is read under Server.mu.
type running struct {
	epoch  uint64
	intake *Intake
	effort *effort // with intake
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended,
	err    error         // for this reason
}

// learnerNice keeps training behind elections and commits, and before sampling,
// which workers do at 10.
const learnerNice = 5

// startLearners runs a learner for each job whose current epoch was granted to
// this process, and ends those whose epoch is over. It goes by this node's own
// replica: a grant takes effect when that has applied it, so a learner begins
// with the last state that was committed before.
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
		if permit, ok := s.permits[j.ID]; ok && permit < j.Epoch && r == nil {
			delete(s.permits, j.ID)
		}
		if r != nil || j.Status != fsm.Running || j.Learner != s.Node || s.permits[j.ID] != j.Epoch {
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
	// Half of the cores are left to raft, to the streams and to workers.
	team := cores.New(runtime.GOMAXPROCS(0)/2, func() { _ = nice.Goroutine(learnerNice) })
	defer team.Close()
	u.Share(team)
	u.Within(ctx)
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
	r.intake, r.effort = intake, &effort{}
	h := s.hub(j.ID)
	s.mu.Unlock()
	defer intake.Close()

	ev := newEvaluator(ctx, spec, u, h, s.Clock, s.members, logger)
	if err := unready(u.Env); err != nil { // learning needs no rewards, samples do
		logger.Warn("no metrics that need rewards: they cannot be had in this process", "error", err)
	} else if ev.samples, err = NewEstimator(u, ev.exact, s.Draw); err != nil {
		return err
	}
	ev.ages.committed(j.Version, j.Committed)
	intake.Committed(j.Version, j.Committed)
	arch, err := s.archive(ctx, j, u, logger)
	if err != nil {
		return err
	}
	l := &Learner{
		Lease:     Lease{Job: j.ID, Generation: j.Generation, Epoch: j.Epoch},
		Updater:   u,
		Feed:      intake,
		Log:       arch.log(s.uplink),
		Clock:     s.Clock,
		Logger:    logger,
		Committed: j.HasState,
		Updates:   spec.Train.Updates,
		effort:    r.effort,
		MinWindow: time.Duration(spec.Mesh.WindowMS) * time.Millisecond,
		OnUpdate:  arch.updates(ev.updated),
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
		ev.run(evCtx, ctx)
	})
	evaluating.Go(func() { arch.merge(evCtx) })
	unmeasure := s.measure(l, intake, ev.ages)
	err = l.Run(ctx)
	unmeasure()
	stop()
	s.Journal.Write(journal.Entry{Kind: journal.Ended, Job: j.ID, Node: s.Node, Epoch: j.Epoch, Detail: fmt.Sprint(err)})
	evaluating.Wait()
	arch.wait()
	return err
}

// unready says why the rewards of an environment cannot be had in this process.
func unready(env envs.Env) error {
	if remote, ok := env.(envs.Remote); ok {
		return remote.Ready()
	}
	return nil
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

// ended records how a learner came to its end, and gives its lease back.
func (s *Server) ended(ctx context.Context, j *fsm.Job, r *running) {
	held := wire.Lease{Job: j.ID, Epoch: r.epoch}
	// Exactly the end of its context: a last commit that failed besides is a failure.
	clean := r.err == nil || r.err == context.Canceled || errors.Is(r.err, ErrFenced)
	out := &wire.Released{Lease: held, Failed: !clean && ctx.Err() == nil}
	switch {
	case out.Failed:
		out.Error = r.err.Error()[:min(len(r.err.Error()), fsm.MaxReason)]
	case r.err != nil && ctx.Err() == nil:
		s.Logger.Info("learner ended", "job", j.ID, "epoch", r.epoch, "reason", r.err)
	}
	s.mu.Lock()
	delete(s.learners, j.ID)
	h := s.hub(j.ID)
	s.mu.Unlock()
	s.surrender(ctx, out)
	h.wake() // watchers wait for this end
}

// surrender gives a lease of this process back to the leader.
func (s *Server) surrender(ctx context.Context, r *wire.Released) {
	s.mu.Lock()
	if s.permits[r.Lease.Job] == r.Lease.Epoch {
		delete(s.permits, r.Lease.Job) // a new run needs a new epoch
	}
	leads := s.term != nil
	s.mu.Unlock()
	if leads {
		s.released(ctx, s.Node, r)
	} else {
		s.uplink.release(r)
	}
}

// permitted implements uplinkNode: a Grant to this node was applied.
func (s *Server) permitted(l wire.Lease) {
	s.mu.Lock()
	s.permits[l.Job] = l.Epoch
	s.mu.Unlock()
	s.poke()
}

// asked implements uplinkNode: the learner of a lease is to commit what it has
// and to end.
func (s *Server) asked(l wire.Lease) {
	s.mu.Lock()
	r := s.learners[l.Job]
	if r != nil && r.epoch == l.Epoch {
		r.cancel()
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.surrender(context.Background(), &wire.Released{Lease: l})
}

// hello implements uplinkNode.
func (s *Server) hello() *wire.LearnerHello {
	h := &wire.LearnerHello{
		ClusterID: s.Mesh.ClusterID(), Node: s.Node, Addr: s.Addr, Dedicated: s.Dedicated,
		CPUs: s.resources.CPUs, MemoryMB: s.resources.MemoryMB, GPUs: s.resources.GPUs,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.permits)) {
		h.Leases = append(h.Leases, wire.Lease{Job: id, Epoch: s.permits[id]})
	}
	return h
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

// stopLearners ends every learner, which then commits what it has.
func (s *Server) stopLearners() {
	s.uplink.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.learners {
		r.cancel()
	}
}
