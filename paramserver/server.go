package paramserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// Server is one parameter server node: it answers the mesh protocol from its
// replica, grants jobs while it leads, and runs the learners of the jobs that
// are granted to it.
//
// In this version a job's learner lives on the leader: when leadership moves,
// the new leader grants each running job to itself, which fences the old one.
type Server struct {
	Replica *replica.Replica
	Mesh    *cluster.Mesh
	Node    string // this node's UUID
	Addr    string // gRPC address, as others reach it
	Clock   clock.Clock
	Logger  *slog.Logger

	mu       sync.Mutex
	learners map[string]*running // by job
	granted  map[string]uint64   // epochs this process granted to itself
	hubs     map[string]*hub
	wake     chan struct{}
	failures map[string]int
}

// running is a learner of this process.
type running struct {
	epoch  uint64
	intake *Intake
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
}

// maxFailures is how often a learner may fail in a row before its job does.
const maxFailures = 3

// Run reconciles what the replicated state says with what this process does,
// until ctx ends: granted jobs have a learner here, others have none.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	s.learners, s.granted, s.hubs = map[string]*running{}, map[string]uint64{}, map[string]*hub{}
	s.failures = map[string]int{}
	s.wake = make(chan struct{}, 1)
	s.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.stopLearners()
	tick := time.NewTicker(500 * time.Millisecond) // heals a lost notification
	defer tick.Stop()
	for {
		changed := s.Replica.Changed()
		if s.Replica.IsLeader() {
			s.grantJobs(ctx)
		}
		s.startLearners(ctx, &wg)
		select {
		case <-ctx.Done():
			return nil
		case <-s.Replica.Done():
			return s.Replica.Err()
		case <-changed:
		case <-s.Replica.LeaderCh():
		case <-s.wake:
		case <-tick.C:
		}
	}
}

// grantJobs gives every running job that has no learner in this process to it.
func (s *Server) grantJobs(ctx context.Context) {
	for _, j := range s.jobs() {
		s.mu.Lock()
		mine := j.Learner == s.Node && s.granted[j.ID] == j.Epoch
		s.mu.Unlock()
		if j.Status != fsm.Running || mine {
			continue
		}
		g := &fsm.Grant{Job: j.ID, Epoch: j.Epoch + 1, Node: s.Node, Addr: s.Addr, Stamp: s.Clock.Now().UnixNano()}
		res, err := s.Replica.Apply(ctx, g)
		if err != nil {
			if ctx.Err() == nil {
				s.Logger.Warn("grant not applied", "job", j.ID, "epoch", g.Epoch, "error", err)
			}
			continue // ErrUnknown included: the state shows what became of it
		}
		if res.Outcome == fsm.Applied {
			s.mu.Lock()
			s.granted[j.ID] = g.Epoch
			s.mu.Unlock()
			s.Logger.Info("job granted", "job", j.ID, "node", s.Node, "epoch", g.Epoch, "version", j.Version)
		}
	}
}

// startLearners runs a learner for each job whose current epoch this process
// holds, and ends those whose epoch is over.
func (s *Server) startLearners(ctx context.Context, wg *sync.WaitGroup) {
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
		r, run, err := s.newLearner(j, cancel)
		if err != nil {
			cancel()
			s.Logger.Error("learner cannot start", "job", j.ID, "epoch", j.Epoch, "error", err)
			wg.Go(func() { s.fail(ctx, j.ID, err) })
			delete(s.granted, j.ID)
			continue
		}
		s.learners[j.ID] = r
		wg.Go(func() {
			defer s.poke()
			err := run(lctx)
			cancel()
			r.intake.Close()
			s.ended(ctx, j.ID, r, err)
			close(r.done)
		})
	}
}

// ended records how a learner's run came to its end.
func (s *Server) ended(ctx context.Context, jobID string, r *running, err error) {
	s.mu.Lock()
	delete(s.learners, jobID)
	delete(s.granted, jobID)  // a new run needs a new epoch
	defer s.hub(jobID).wake() // watchers wait for this end
	switch {
	case err == nil, errors.Is(err, ErrFenced), errors.Is(err, context.Canceled):
		s.failures[jobID] = 0
		s.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.Logger.Info("learner ended", "job", jobID, "epoch", r.epoch, "reason", err)
		}
		return
	}
	s.failures[jobID]++
	n := s.failures[jobID]
	s.mu.Unlock()
	s.Logger.Error("learner failed", "job", jobID, "epoch", r.epoch, "failures", n, "error", err)
	if n >= maxFailures && ctx.Err() == nil {
		s.fail(ctx, jobID, err)
	}
}

// fail ends a job for good, with the reason.
func (s *Server) fail(ctx context.Context, jobID string, why error) {
	cmd := &fsm.SetStatus{Job: jobID, Status: fsm.Failed, Reason: why.Error(), Fence: true, Stamp: s.Clock.Now().UnixNano()}
	if _, err := s.Replica.Apply(ctx, cmd); err != nil {
		s.Logger.Error("job status not applied", "job", jobID, "error", err)
	}
}

func (s *Server) newLearner(j *fsm.Job, cancel context.CancelFunc) (*running, func(context.Context) error, error) {
	spec, err := job.FromJSON(j.Spec)
	if err != nil {
		return nil, nil, fmt.Errorf("job %s: %w", j.ID, err)
	}
	u, err := NewUpdater(spec)
	if err != nil {
		return nil, nil, fmt.Errorf("job %s: %w", j.ID, err)
	}
	if len(j.Params) > 0 {
		if err := u.Restore(j.Version, j.Params, j.Private); err != nil {
			return nil, nil, fmt.Errorf("job %s at version %d: %w", j.ID, j.Version, err)
		}
		s.Logger.Info("learner resumes", "job", j.ID, "epoch", j.Epoch, "version", j.Version)
	}
	logger := s.Logger.With("job", j.ID, "epoch", j.Epoch)
	intake := NewIntake(NewReplay(spec.Mesh.ReplayMax, spec.Mesh.Rollout, spec.Mesh.MaxLag, spec.Mesh.OnStale == "drop"), spec.Train.Batch, u.Version(), logger)
	h := s.hub(j.ID)
	ev := newEvaluator(spec, u, h, s.Clock, s.members, logger)
	ev.ages.committed(j.Version, j.Committed)
	log := &raftLog{replica: s.Replica, logger: logger}
	l := &Learner{
		Lease:     Lease{Job: j.ID, Generation: j.Generation, Epoch: j.Epoch},
		Updater:   u,
		Feed:      intake,
		Log:       log,
		Clock:     s.Clock,
		Logger:    logger,
		Updates:   spec.Train.Updates,
		MinWindow: time.Duration(spec.Mesh.WindowMS) * time.Millisecond,
		OnUpdate:  ev.updated,
		OnPropose: ev.proposed,
		OnCommit: func(c *fsm.Commit, took time.Duration) {
			s.Mesh.AnnounceVersion(c.Job, wire.Position{Generation: c.Generation, Version: c.Version})
			ev.committed(c, took)
		},
	}
	run := func(ctx context.Context) error {
		var wg sync.WaitGroup
		evCtx, stop := context.WithCancel(context.WithoutCancel(ctx)) // the last commits get their rows
		wg.Go(func() { ev.run(evCtx) })
		err := l.Run(ctx)
		stop()
		wg.Wait()
		log.waiting.Wait()
		return err
	}
	return &running{epoch: j.Epoch, intake: intake, cancel: cancel, done: make(chan struct{})}, run, nil
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

func (s *Server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Server) jobs() (out []*fsm.Job) {
	s.Replica.Read(func(st *fsm.State) { out = st.Jobs() })
	return out
}

func (s *Server) job(id string) (out *fsm.Job) {
	s.Replica.Read(func(st *fsm.State) { out, _ = st.Job(id) })
	return out
}

// members counts the live nodes by role.
func (s *Server) members() (servers, workers int) {
	for _, m := range s.Mesh.Members() {
		switch {
		case m.State != cluster.Alive:
		case m.Role == cluster.RoleServer:
			servers++
		default:
			workers++
		}
	}
	return servers, workers
}

// notLeader is the definite refusal that tells a client where to go.
func (s *Server) notLeader() error {
	id, _ := s.Replica.Leader()
	for _, m := range s.Mesh.Members() {
		if m.ID == id {
			return cluster.ErrNotLeader{Addr: m.GRPCAddr}
		}
	}
	return cluster.ErrNotLeader{}
}

// raftLog is the Log of a learner: it makes every answer definite.
type raftLog struct {
	replica *replica.Replica
	logger  *slog.Logger
	waiting sync.WaitGroup // for answers; the learner's run waits for it
}

// Commit implements Log. The answer to a commit whose fate is unknown is found
// by proposing the same bytes again, for as long as this node leads: if they
// got in, the state machine says so.
func (l *raftLog) Commit(ctx context.Context, c *fsm.Commit) (<-chan Answer, error) {
	out := make(chan Answer, 1)
	future := l.replica.ApplyAsync(c)
	l.waiting.Go(func() {
		res, err := future.Wait(ctx)
		for errors.Is(err, replica.ErrUnknown) && ctx.Err() == nil {
			l.logger.Warn("commit outcome unknown, proposing the same bytes again", "version", c.Version, "error", err)
			res, err = l.replica.Apply(ctx, c)
		}
		if errors.Is(err, replica.ErrNotLeader) {
			res, err = fsm.Result{Outcome: fsm.Fenced}, nil // somebody else leads and will grant the job anew
		}
		out <- Answer{res, err}
	})
	return out, nil
}

var _ Log = (*raftLog)(nil)
