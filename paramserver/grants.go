package paramserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/telemetry"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/lease"
)

// term is what a leader knows of the nodes that train, for one term of its
// leadership. Server.mu guards it.
type term struct {
	number  uint64
	desk    *lease.Desk
	streams map[string]*learnerStream // by node
	waiting map[string]string         // why a job has no learner, by job
	drains  map[string]chan error     // who waits for a job's release, by job
}

// learnerStream is the connection of a node that trains.
type learnerStream struct {
	node   string
	out    chan *wire.LearnerDown
	cancel context.CancelCauseFunc
}

// maxOutbound bounds what a node may leave unread.
const maxOutbound = 1 << 10

// tell queues a message; a node that does not read loses its stream.
func (l *learnerStream) tell(m *wire.LearnerDown) {
	select {
	case l.out <- m:
	default:
		l.cancel(fmt.Errorf("%w: it does not read", cluster.ErrUnavailable))
	}
}

// lead carries out what the lease machine plans, while this node leads.
func (s *Server) lead(ctx context.Context) {
	now := s.Clock.Now()
	jobs := s.jobs()
	s.mu.Lock()
	t := s.enterTerm(now)
	plan := t.desk.Step(s.leasable(jobs), now)
	t.waiting = plan.Waiting
	for _, id := range plan.Expired {
		if l := t.streams[id]; l != nil {
			l.cancel(fmt.Errorf("%w: this node said nothing for %s", cluster.ErrUnavailable, lease.Expiry))
		}
	}
	s.mu.Unlock()
	for _, id := range plan.Moves {
		s.askRelease(id)
	}
	for _, g := range plan.Grants {
		s.grant(ctx, t, g)
	}
}

// enterTerm returns the present term of leadership; s.mu is held.
func (s *Server) enterTerm(now time.Time) *term {
	if number := s.Replica.Term(); s.term == nil || s.term.number != number {
		s.leaveTerm()
		s.term = &term{
			number: number, desk: lease.New(s.Node, s.predecessor, now),
			streams: map[string]*learnerStream{}, drains: map[string]chan error{},
		}
		if !s.Idle {
			s.term.desk.Join(lease.Node{ID: s.Node, Addr: s.Addr, Dedicated: s.Dedicated, Has: s.resources}, maps.Clone(s.permits), now)
		}
	}
	return s.term
}

// leaveTerm ends the streams of a term that is over; s.mu is held.
func (s *Server) leaveTerm() {
	if s.term == nil {
		return
	}
	for _, l := range s.term.streams {
		l.cancel(cluster.ErrNotLeader{})
	}
	for _, done := range s.term.drains {
		close(done)
	}
	s.term = nil
}

// leasable is what the lease machine needs to know of the jobs; s.mu is held.
func (s *Server) leasable(jobs []*fsm.Job) (out []lease.Job) {
	for _, j := range jobs {
		if j.Status == fsm.Running {
			out = append(out, lease.Job{
				ID: j.ID, Epoch: j.Epoch, Learner: j.Learner, Priority: j.Priority,
				Needs: s.needsOf(j), Draining: s.draining[j.ID] > 0,
			})
		}
	}
	return out
}

// needsOf is what a job's spec asks of its learner's node; s.mu is held. Specs
// never change, so each is read once.
func (s *Server) needsOf(j *fsm.Job) job.Resources {
	needs, known := s.needs[j.ID]
	if !known {
		if spec, err := job.FromJSON(j.Spec); err == nil { // else its learner says so
			needs = spec.Mesh.Learner
		}
		s.needs[j.ID] = needs
	}
	return needs
}

// grant proposes a Grant and, once it is applied, lets the node know.
func (s *Server) grant(ctx context.Context, t *term, g lease.Grant) {
	cmd := &fsm.Grant{Job: g.Job, Epoch: g.Epoch, Node: g.Node, Addr: g.Addr, Stamp: s.Clock.Now().UnixNano()}
	s.Replica.Read(func(st *fsm.State) {
		if st.FeatureLevel() >= 2 {
			cmd.Reason = g.Reason
		}
	})
	res, err := s.Replica.Apply(ctx, cmd)
	if err != nil {
		if ctx.Err() == nil {
			s.Logger.Warn("grant not applied", "job", g.Job, "epoch", g.Epoch, "error", err)
		}
		return // ErrUnknown included: the state shows what became of it
	}
	if res.Outcome != fsm.Applied {
		return
	}
	s.Logger.Info("job granted", "job", g.Job, "epoch", g.Epoch, "to", g.Node, "reason", g.Reason)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term != t {
		return
	}
	t.desk.Granted(g)
	if g.Node == s.Node {
		s.permits[g.Job] = g.Epoch
	} else if l := t.streams[g.Node]; l != nil {
		l.tell(&wire.LearnerDown{Permit: &wire.Lease{Job: g.Job, Epoch: g.Epoch}})
	}
}

// askRelease makes the learner of a job commit what it has and end.
func (s *Server) askRelease(jobID string) {
	j := s.job(jobID)
	if j == nil {
		return
	}
	held := wire.Lease{Job: jobID, Epoch: j.Epoch}
	if j.Learner == s.Node {
		s.asked(held)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term == nil {
		return
	}
	if l := s.term.streams[j.Learner]; l != nil {
		l.tell(&wire.LearnerDown{Release: &held})
	}
}

// released notes that the learner of a lease has ended, here or on another node.
func (s *Server) released(ctx context.Context, node string, r *wire.Released) {
	version := uint64(0)
	j := s.job(r.Lease.Job)
	if j != nil {
		version = j.Version
	}
	s.mu.Lock()
	t := s.term
	if t == nil || t.desk.Holder(r.Lease.Job, r.Lease.Epoch) != node {
		s.mu.Unlock()
		return
	}
	giveUp := t.desk.Released(node, r.Lease.Job, r.Lease.Epoch, version, r.Failed, s.Clock.Now())
	if done := t.drains[r.Lease.Job]; done != nil {
		delete(t.drains, r.Lease.Job)
		if r.Failed {
			done <- errors.New(r.Error)
		}
		close(done)
	}
	s.mu.Unlock()
	s.poke()
	if !r.Failed || ctx.Err() != nil {
		return
	}
	s.Telemetry.Add(telemetry.Rollbacks, 1, r.Lease.Job)
	s.Logger.Error("learner failed", "job", r.Lease.Job, "epoch", r.Lease.Epoch, "on", node, "error", r.Error)
	s.note(ctx, fsm.EventRollback, r.Lease.Job, node, fmt.Sprintf("epoch %d ended, back to version %d: %s", r.Lease.Epoch, version, r.Error))
	if giveUp {
		s.pauseFailed(ctx, r)
	}
}

// waitingJobs says why jobs have no learner, on the leader.
func (s *Server) waitingJobs() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term == nil {
		return nil
	}
	return s.term.waiting // replaced and never changed
}

// note writes an event into the cluster's history, once it keeps one.
func (s *Server) note(ctx context.Context, kind, jobID, node, detail string) {
	var level uint8
	s.Replica.Read(func(st *fsm.State) { level = st.FeatureLevel() })
	if level < 2 {
		return
	}
	cmd := &fsm.Note{Kind: kind, Job: jobID, Node: node, Detail: detail[:min(len(detail), fsm.MaxDetail)], Stamp: s.Clock.Now().UnixNano()}
	if _, err := s.Replica.Apply(ctx, cmd); err != nil && ctx.Err() == nil {
		s.Logger.Debug("event not recorded", "kind", kind, "job", jobID, "error", err)
	}
}

// pauseFailed gives up on a job whose learners fail again and again: its
// committed state is kept, and it may be resumed.
func (s *Server) pauseFailed(ctx context.Context, r *wire.Released) {
	now := s.job(r.Lease.Job)
	if now == nil || now.Epoch != r.Lease.Epoch || now.Status != fsm.Running {
		return // somebody else's by now
	}
	reason := fmt.Sprintf("the learner failed %d times in a row: %s", lease.MaxFailures, r.Error)
	cmd := &fsm.SetStatus{Job: r.Lease.Job, Status: fsm.Paused, Reason: reason[:min(len(reason), fsm.MaxReason)], Fence: true, Stamp: s.Clock.Now().UnixNano()}
	if _, err := s.Replica.Apply(ctx, cmd); err != nil {
		s.Logger.Error("job not paused", "job", r.Lease.Job, "error", err)
	}
}

// drain makes a job's learner commit its open window and end, wherever it is,
// and keeps the job from being granted again until release is called. The error
// says that the last commit did not get in.
func (s *Server) drain(ctx context.Context, jobID string) (release func(), err error) {
	s.mu.Lock()
	s.draining[jobID]++
	s.mu.Unlock()
	release = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.draining[jobID]--; s.draining[jobID] == 0 {
			delete(s.draining, jobID)
		}
	}
	// A grant that was under way is applied by now, or will be fenced.
	if err := s.linearize(ctx); err != nil {
		return release, err
	}
	j := s.job(jobID)
	s.mu.Lock()
	t := s.term
	if j == nil || t == nil || t.desk.Holder(jobID, j.Epoch) == "" {
		s.mu.Unlock()
		return release, nil
	}
	done := t.drains[jobID]
	if done == nil {
		done = make(chan error, 1)
		t.drains[jobID] = done
	}
	s.mu.Unlock()
	s.askRelease(jobID)
	select {
	case err := <-done:
		return release, err
	case <-ctx.Done():
		return release, ctx.Err()
	}
}

// Learn implements cluster.LearningServer: the stream of a node that trains.
func (s *Server) Learn(stream grpc.BidiStreamingServer[wire.LearnerUp, wire.LearnerDown]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.Hello
	if hello == nil {
		return fmt.Errorf("%w: the first message of a learner's stream is a Hello", cluster.ErrInvalid)
	}
	if err := hello.Check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	l := &learnerStream{node: hello.Node, out: make(chan *wire.LearnerDown, maxOutbound), cancel: cancel}
	if !s.enrol(l, hello) {
		return s.notLeader()
	}
	s.Logger.Info("node trains", "about", l.node, "cpus", hello.CPUs, "memory_mb", hello.MemoryMB, "gpus", hello.GPUs, "leases", len(hello.Leases))
	defer func() {
		if err == nil {
			err = errors.New("its stream ended")
		}
		s.dismiss(l, err)
	}()
	relay := newRelay(s.Replica, l)
	defer relay.stop()
	go func() { // ends with the stream's context
		cancel(s.hear(ctx, stream, l, relay))
	}()
	beat := time.NewTicker(lease.BeatEvery)
	defer beat.Stop()
	for {
		var m *wire.LearnerDown
		select {
		case m = <-l.out:
		case <-beat.C:
			if !s.Replica.IsLeader() {
				err = s.notLeader()
				return err
			}
			m = &wire.LearnerDown{}
		case <-ctx.Done():
			if err = context.Cause(ctx); errors.As(err, new(cluster.ErrNotLeader)) {
				err = s.notLeader()
			}
			return err
		}
		if err = stream.Send(m); err != nil {
			return err
		}
	}
}

// enrol notes a node that connects; no, if this node does not lead.
func (s *Server) enrol(l *learnerStream, h *wire.LearnerHello) bool {
	if !s.Replica.IsLeader() {
		return false
	}
	held := make(map[string]uint64, len(h.Leases))
	for _, x := range h.Leases {
		held[x.Job] = x.Epoch
	}
	now := s.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.enterTerm(now)
	if old := t.streams[l.node]; old != nil {
		old.cancel(fmt.Errorf("%w: the node has connected again", cluster.ErrUnavailable))
	}
	t.streams[l.node] = l
	t.desk.Join(lease.Node{
		ID: l.node, Addr: h.Addr, Dedicated: h.Dedicated, Has: job.Resources{CPUs: h.CPUs, MemoryMB: h.MemoryMB, GPUs: h.GPUs},
	}, held, now)
	s.poke()
	return true
}

// dismiss notes the end of a node's stream.
func (s *Server) dismiss(l *learnerStream, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.term; t != nil && t.streams[l.node] == l {
		delete(t.streams, l.node)
		t.desk.Leave(l.node, "lost its connection to the leader")
		for id, done := range t.drains { // nobody will answer: the fence is enough
			if j := s.job(id); j == nil || j.Learner == l.node {
				delete(t.drains, id)
				close(done)
			}
		}
		s.Logger.Info("node trains no more", "about", l.node, "reason", why)
	}
	s.poke()
}

// hear takes what a node says, until its stream ends.
func (s *Server) hear(ctx context.Context, stream grpc.BidiStreamingServer[wire.LearnerUp, wire.LearnerDown], l *learnerStream, relay *relay) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		s.mu.Lock()
		if t := s.term; t != nil && t.streams[l.node] == l {
			t.desk.Heard(l.node, s.Clock.Now())
			if m.Leaving {
				t.desk.Leaving(l.node)
			}
		}
		s.mu.Unlock()
		switch {
		case m.Part != nil:
			if err := relay.take(m.Part); err != nil {
				return err
			}
		case m.Released != nil:
			// Its last commits are answered before it says so.
			s.released(ctx, l.node, m.Released)
		}
	}
}
