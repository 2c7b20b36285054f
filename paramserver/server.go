package paramserver

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/telemetry"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// Config is what a Server stands on; every field but Objects, Journal and Telemetry is required.
type Config struct {
	Replica *replica.Replica
	Mesh    *cluster.Mesh
	Node    string // this node's UUID
	Addr    string // gRPC address, as others reach it
	Clock   clock.Clock
	Logger  *slog.Logger
	// Objects, when set, gives the archive of a job, or nil: a learner that takes
	// a job over fills its replay buffer from it.
	Objects func(j *fsm.Job) ObjectSource
	// Journal keeps what the learners of this node proposed and what became of
	// it; nil keeps nothing.
	Journal *journal.Journal
	// Telemetry takes the server's numbers; nil: nobody does.
	Telemetry *telemetry.Registry
}

// Server is one parameter server node: it answers the mesh protocol from its
// replica, grants jobs while it leads, and runs the learners of the jobs that
// are granted to it.
//
// In this version a job's learner lives on the leader: when leadership moves,
// the new leader grants each running job to itself, which fences the old one.
type Server struct {
	Config

	mu       sync.Mutex
	learners map[string]*running // by job
	granted  map[string]uint64   // epochs this process granted to itself, by job
	draining map[string]int      // jobs that are being stopped or paused: no new grants
	failures map[string]failure  // by job
	hubs     map[string]*hub     // by job
	lost     map[string]time.Time
	wake     chan struct{}
	loops    sync.WaitGroup // learners
	backups  atomic.Int32   // being sent
	meters   meters

	publication publication
}

// NewServer returns a Server that answers the protocol; Run makes it act.
func NewServer(c Config) *Server {
	s := &Server{
		Config:   c,
		learners: map[string]*running{}, granted: map[string]uint64{}, draining: map[string]int{},
		failures: map[string]failure{}, hubs: map[string]*hub{}, lost: map[string]time.Time{},
		wake: make(chan struct{}, 1),
	}
	c.Telemetry.Read(s.collect)
	return s
}

// reconcileEvery bounds how long a lost notification, or a change that makes
// none, such as a node's death, goes unseen.
const reconcileEvery = 500 * time.Millisecond

// Run reconciles what the replicated state says with what this process does,
// until ctx ends: jobs granted to it have a learner here, others have none.
func (s *Server) Run(ctx context.Context) error {
	defer s.loops.Wait()
	defer s.stopLearners()
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		changed := s.Replica.Changed()
		if s.Replica.IsLeader() {
			s.grantJobs(ctx)
		}
		s.startLearners(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-s.Replica.Done():
			return s.Replica.Err()
		case <-changed:
		case <-s.Replica.LeaderCh():
		case <-s.wake:
		case <-tick.C:
			if s.Replica.IsLeader() {
				s.expireSessions(ctx)
			}
		}
	}
}

// grantJobs gives every running job that has no learner in this process to it.
func (s *Server) grantJobs(ctx context.Context) {
	for _, j := range s.jobs() {
		if j.Status != fsm.Running || !s.mayGrant(j) {
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
			s.Logger.Info("job granted", "job", j.ID, "epoch", g.Epoch)
		}
	}
}

// mayGrant says whether a running job needs a grant now: not while this process
// holds it, while it is being stopped, or too soon after its learner failed.
func (s *Server) mayGrant(j *fsm.Job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := j.Learner == s.Node && s.granted[j.ID] == j.Epoch
	return !held && s.learners[j.ID] == nil && s.draining[j.ID] == 0 && !s.Clock.Now().Before(s.failures[j.ID].retry)
}

// sessionGrace is how long a worker must have been dead before its sessions
// expire: one that was only cut off comes back and resends.
const sessionGrace = 30 * time.Second

// expireSessions ends the sessions of workers that died.
func (s *Server) expireSessions(ctx context.Context) {
	alive := map[string]bool{}
	for _, m := range s.Mesh.Members() {
		alive[m.ID] = m.State == cluster.Alive
	}
	now := s.Clock.Now()
	for _, j := range s.jobs() {
		if j.Status != fsm.Running && j.Status != fsm.Paused {
			continue
		}
		var sessions []fsm.Session
		s.Replica.Read(func(st *fsm.State) { sessions = st.OpenSessions(j.ID) })
		for _, open := range sessions {
			if alive[open.Worker] {
				delete(s.lost, open.Worker)
				continue
			}
			since, known := s.lost[open.Worker]
			if !known {
				s.lost[open.Worker] = now
				continue
			}
			if now.Sub(since) >= sessionGrace {
				s.expire(ctx, j.ID, open.ID)
			}
		}
	}
}

// expire ends one session through the log.
func (s *Server) expire(ctx context.Context, jobID, session string) {
	if _, err := s.Replica.Apply(ctx, &fsm.ExpireSession{Job: jobID, Session: session, Stamp: s.Clock.Now().UnixNano()}); err != nil {
		s.Logger.Debug("session not expired", "job", jobID, "session", session, "error", err)
		return
	}
	s.Logger.Info("session expired", "job", jobID, "session", session)
}

func (s *Server) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
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
