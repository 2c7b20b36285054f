package paramserver

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/probe"
	"github.com/driftmesh/driftmesh/internal/telemetry"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/lease"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// Config is what a Server stands on; the fields from Peers on may be left out.
type Config struct {
	Replica *replica.Replica
	Mesh    *cluster.Mesh
	Node    string // this node's UUID
	Addr    string // gRPC address, as others reach it
	Clock   clock.Clock
	Logger  *slog.Logger
	// Peers reach the leader where that is another node; nil: there is none.
	Peers *Peers
	// Dedicated says that this node only trains: a learner's node.
	Dedicated bool
	// Idle says that this node trains nothing.
	Idle bool
	// Objects, when set, gives the archive of a job, or nil: a learner that takes
	// a job over fills its replay buffer from it.
	Objects func(j *fsm.Job) ObjectSource
	// Draw makes a sampler for evaluations; nil: there are no estimates from samples
	// of P_F.
	Draw func(*job.Spec) (Drawer, error)
	// Archive holds the archive segments of this node; nil: it trains no job that
	// has an archive.
	Archive *archive.Node
	// Journal keeps what the learners of this node proposed and what became of
	// it; nil keeps nothing.
	Journal *journal.Journal
	// Telemetry takes the server's numbers; nil: nobody does.
	Telemetry *telemetry.Registry
}

// Server is one node of the replicated log: it answers the mesh protocol from its
// replica, runs the learners of the jobs that are granted to it, and says while it
// leads who trains what. Servers and learners' nodes run the same code; the latter
// never lead.
type Server struct {
	Config
	resources job.Resources // of this machine
	uplink    *uplink

	mu          sync.Mutex
	learners    map[string]*running      // by job
	permits     map[string]uint64        // epochs that were granted to this process, by job
	draining    map[string]int           // jobs that are being stopped or paused: no new grants
	needs       map[string]job.Resources // of learners, by job
	hubs        map[string]*hub          // by job
	lost        map[string]time.Time     // workers
	predecessor string                   // node that led last, apart from this one
	term        *term                    // nil unless this node leads
	wake        chan struct{}
	loops       sync.WaitGroup // learners
	backups     atomic.Int32   // being sent
	meters      meters

	publication publication
	division    division
}

// NewServer returns a Server that answers the protocol; Run makes it act.
func NewServer(c Config) *Server {
	s := &Server{
		Config: c, resources: probe.Host(),
		learners: map[string]*running{}, permits: map[string]uint64{}, draining: map[string]int{},
		needs: map[string]job.Resources{}, hubs: map[string]*hub{}, lost: map[string]time.Time{},
		wake: make(chan struct{}, 1),
	}
	peers := c.Peers
	if c.Idle {
		peers = nil
	}
	s.uplink = newUplink(c.Replica, peers, s, c.Logger)
	c.Telemetry.Read(s.collect)
	return s
}

const (
	// reconcileEvery bounds how long a lost notification, or a change that makes
	// none, goes unseen.
	reconcileEvery = 500 * time.Millisecond
	// leadEvery is how often a leader looks for learners that are silent.
	leadEvery = lease.BeatEvery
)

// Run reconciles what the replicated state says with what this process does,
// until ctx ends: jobs granted to it have a learner here, others have none. Then
// the learners commit what they have.
func (s *Server) Run(ctx context.Context) error {
	carry, stop := context.WithCancel(context.WithoutCancel(ctx))
	var carrying sync.WaitGroup
	carrying.Go(func() { s.uplink.run(carry) })
	defer carrying.Wait()
	defer stop()
	defer s.loops.Wait() // their last commits need the uplink
	defer s.stopLearners()
	tick := time.NewTicker(leadEvery)
	defer tick.Stop()
	expire := time.NewTicker(reconcileEvery)
	defer expire.Stop()
	for {
		changed := s.Replica.Changed()
		if s.Replica.IsLeader() {
			s.lead(ctx)
		} else {
			s.follow()
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
		case <-expire.C:
			if s.Replica.IsLeader() {
				s.expireSessions(ctx)
			}
		}
	}
}

// follow notes who leads, and ends this node's own term.
func (s *Server) follow() {
	leader, _ := s.Replica.Leader()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveTerm()
	if leader != "" && leader != s.Node {
		s.predecessor = leader
	}
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
			// A session that was opened since shows that the worker lives, cut off
			// from gossip though it is.
			if opened := time.Unix(0, open.Opened); opened.After(since) {
				since = opened
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
		case m.Role == cluster.RoleWorker:
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
