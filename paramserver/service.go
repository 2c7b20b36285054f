package paramserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

var _ cluster.MeshServer = (*Server)(nil)

// apply proposes a command and turns a refusal into an error.
func (s *Server) apply(ctx context.Context, cmd any) (fsm.Result, error) {
	founded := s.founded() // before: it may come to be between the refusal and a look at it
	res, err := s.Replica.Apply(ctx, cmd)
	switch {
	case errors.Is(err, replica.ErrNotLeader):
		return res, s.notLeader()
	case errors.Is(err, replica.ErrUnknown):
		return res, fmt.Errorf("%w: %w", cluster.ErrOutcomeUnknown, err)
	case err != nil:
		return res, fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
	case res.Outcome == fsm.Rejected && !founded:
		return res, fmt.Errorf("%w: %s yet", cluster.ErrUnavailable, res.Reason)
	case res.Outcome == fsm.Rejected:
		return res, fmt.Errorf("%w: %s", cluster.ErrConflict, res.Reason)
	case res.Outcome == fsm.Fenced || res.Outcome == fsm.WrongBase:
		return res, fmt.Errorf("%w: %s", cluster.ErrFenced, res.Outcome)
	}
	return res, nil
}

// founded says whether the log has begun with the cluster's identity. A server
// may lead for a moment before that is committed.
func (s *Server) founded() (yes bool) {
	s.Replica.Read(func(st *fsm.State) { yes = st.ClusterID() != "" })
	return yes
}

// Submit creates a job. The job's ID is the spec's name.
func (s *Server) Submit(ctx context.Context, req *wire.SubmitRequest) (*wire.SubmitReply, error) {
	spec, err := job.FromJSON(req.Spec)
	if err == nil {
		err = spec.Validate()
	}
	var size int64
	if err == nil {
		_, size, err = Check(spec)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrInvalid, err)
	}
	create := &fsm.CreateJob{Job: spec.Name, Spec: req.Spec, Updates: spec.Train.Updates, Stamp: s.Clock.Now().UnixNano()}
	if err := s.fill(ctx, create, spec, size); err != nil {
		return nil, err
	}
	res, err := s.apply(ctx, create)
	if err != nil {
		return nil, err
	}
	reply := &wire.SubmitReply{Job: spec.Name, Existed: res.Outcome == fsm.AlreadyApplied}
	if j := s.job(spec.Name); j != nil {
		reply.Status = string(j.Status)
	}
	return reply, nil
}

// Control stops, pauses or resumes a job, or changes its share. Stopping lets
// the learner commit what it has before it is fenced.
func (s *Server) Control(ctx context.Context, req *wire.ControlRequest) (*wire.ControlReply, error) {
	if req.Verb == wire.VerbShare {
		return s.setShare(ctx, req)
	}
	to, ok := map[string]fsm.Status{wire.VerbStop: fsm.Stopped, wire.VerbPause: fsm.Paused, wire.VerbResume: fsm.Running}[req.Verb]
	if !ok {
		return nil, fmt.Errorf("%w: verb %q; want stop, pause, resume or share", cluster.ErrInvalid, req.Verb)
	}
	if !s.Replica.IsLeader() {
		return nil, s.notLeader()
	}
	if _, err := s.mustJob(ctx, req.Job); err != nil {
		return nil, err
	}
	if to != fsm.Running {
		release, err := s.drain(ctx, req.Job)
		defer release()
		if err != nil {
			return nil, fmt.Errorf("%w: what was trained last is not committed: %w", cluster.ErrUnavailable, err)
		}
	}
	_, err := s.apply(ctx, &fsm.SetStatus{Job: req.Job, Status: to, Reason: "on request", Fence: to != fsm.Running, Stamp: s.Clock.Now().UnixNano()})
	return &wire.ControlReply{}, err
}

// Status answers from this node's own state, which may be behind; any node may
// be asked, for a linearizable answer too.
func (s *Server) Status(ctx context.Context, req *wire.StatusRequest) (*wire.StatusReply, error) {
	if req.Linearizable {
		if err := s.linearize(ctx); err != nil {
			return nil, err
		}
	}
	out := &wire.StatusReply{ClusterID: s.Mesh.ClusterID(), Node: s.Node, Term: s.Replica.Term()}
	leader, _ := s.Replica.Leader()
	for _, m := range s.Mesh.Members() {
		info := m.Info()
		switch m.Role {
		case cluster.RoleServer:
			out.Servers = append(out.Servers, info)
		case cluster.RoleLearner:
			out.Learners = append(out.Learners, info)
		default:
			out.Workers = append(out.Workers, info)
		}
		if m.ID == leader {
			out.Leader = m.GRPCAddr
		}
	}
	byID := func(a, b wire.MemberInfo) int { return strings.Compare(a.ID, b.ID) }
	slices.SortFunc(out.Servers, byID)
	slices.SortFunc(out.Workers, byID)
	slices.SortFunc(out.Learners, byID)
	waiting, held, efforts := s.waitingJobs(), s.held(), s.efforts()
	specs := map[string][]byte{} // of running jobs
	s.Replica.Read(func(st *fsm.State) {
		chain := st.Chain()
		out.Applied, out.Chain = st.Index(), chain[:]
		for _, j := range st.Jobs() {
			if req.Job == "" || req.Job == j.ID {
				x := info(j)
				if why := waits(j, waiting); why != "" {
					x.Reason = why
				} else if j.Status == fsm.Running {
					specs[j.ID] = j.Spec
				}
				if held != nil {
					n := held[j.ID]
					x.Slots = &n
				}
				if x.Effort = efforts[j.ID]; x.Effort != nil {
					x.Effort.Stale = j.Stale
				}
				out.Jobs = append(out.Jobs, x)
			}
		}
	})
	for i := range out.Jobs {
		if x := &out.Jobs[i]; x.Reason == "" {
			x.Reason = s.lacksCopies(specs[x.ID])
		}
	}
	return out, nil
}

// waits says why a running job has no learner. A job that was paused since the plan was
// made has a reason of its own.
func waits(j *fsm.Job, plan map[string]string) string {
	if why := plan[j.ID]; why != "" && j.Status == fsm.Running {
		return "waits for a learner: " + why
	}
	return ""
}

// lacksCopies says why the commits of a running job wait, if they wait for nodes to
// hold its archive.
func (s *Server) lacksCopies(spec []byte) string {
	if s.Archive == nil || spec == nil {
		return ""
	}
	j, err := job.FromJSON(spec)
	if err != nil {
		return ""
	}
	if policy, err := job.ParseArchive(j.Mesh.Archive); err != nil || policy.Keep == job.ArchiveOff {
		return ""
	}
	have, want, short := s.Archive.Short(j.Mesh.ArchiveCopies)
	if !short {
		return ""
	}
	return fmt.Sprintf("commits wait: the archive's segments need %d servers, and %d are alive (mesh.archive_copies)", want, have)
}

func info(j *fsm.Job) wire.JobInfo {
	return wire.JobInfo{
		ID: j.ID, Status: string(j.Status), Reason: j.Reason, Generation: j.Generation,
		Epoch: j.Epoch, Learner: j.Learner, LearnerAddr: j.LearnerAddr, Version: j.Version,
		Updates: j.Updates, Trajectories: j.Trajectories(),
		StateHash: j.StateHash[:], Sessions: j.Sessions, Spec: j.Spec, CommitEpoch: j.CommitEpoch,
		Weight: j.Weight, Priority: j.Priority,
	}
}

// OpenSession opens a worker session through the log.
func (s *Server) OpenSession(ctx context.Context, req *wire.OpenSessionRequest) (*wire.OpenSessionReply, error) {
	res, err := s.apply(ctx, &fsm.OpenSession{Job: req.Job, Session: req.Token, Worker: req.Worker, Slot: req.Slot, Stamp: s.Clock.Now().UnixNano()})
	if err != nil {
		return nil, err
	}
	// A slot has one incarnation and samples for one job: this session ends those
	// before it.
	type open struct{ job, session string }
	var old []open
	s.Replica.Read(func(st *fsm.State) {
		for _, j := range st.Jobs() {
			for _, x := range st.OpenSessions(j.ID) {
				if x.Worker == req.Worker && x.Slot == req.Slot && x.ID != req.Token {
					old = append(old, open{j.ID, x.ID})
				}
			}
		}
	})
	for _, o := range old {
		s.expire(ctx, o.job, o.session)
	}
	return &wire.OpenSessionReply{Session: req.Token, Mark: res.Mark}, nil
}

// Watch streams the metric reports of a job after a version. The learner's
// node has them; others say who that is.
func (s *Server) Watch(req *wire.WatchRequest, stream grpc.ServerStreamingServer[wire.WatchReply]) error {
	after := int64(req.After)
	for {
		changed := s.Replica.Changed()
		j, err := s.mustJob(stream.Context(), req.Job)
		if err != nil {
			return err
		}
		// In this order: the end of a learner that is seen alive closes more, and
		// the reports of one that is not are all there.
		s.mu.Lock()
		h, learning := s.hub(req.Job), s.learners[req.Job] != nil
		_, more := h.after(after)
		s.mu.Unlock()
		reports, _ := h.after(after)
		for _, r := range reports {
			row, err := json.Marshal(r)
			if err != nil {
				return fmt.Errorf("metrics row: %w", err)
			}
			if err := stream.Send(&wire.WatchReply{Row: row}); err != nil {
				return err
			}
			after = r.Row.Version
		}
		if j.Learner != "" && j.Learner != s.Node {
			return cluster.ErrNotLeader{Addr: j.LearnerAddr}
		}
		if j.Status != fsm.Running && !learning {
			return nil // and the last row was sent: it is published before the learner ends
		}
		select {
		case <-changed:
		case <-more:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// Deliver is the trajectory stream of one session: batches up; marks and
// credits down. Marks are committed ones, read from this replica.
func (s *Server) Deliver(stream grpc.BidiStreamingServer[wire.Uplink, wire.Downlink]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.Hello
	if hello == nil {
		return fmt.Errorf("%w: the first message of a trajectory stream is a Hello", cluster.ErrInvalid)
	}
	if _, err := s.mustJob(stream.Context(), hello.Job); err != nil {
		return err
	}
	// The intake first: a mark that is read after it is at least the one that
	// its learner started from.
	s.mu.Lock()
	var intake *Intake
	if r := s.learners[hello.Job]; r != nil {
		intake = r.intake
	}
	s.mu.Unlock()
	if intake == nil {
		return fmt.Errorf("%w: no learner of job %q here", cluster.ErrUnavailable, hello.Job)
	}
	return intake.Serve(stream, hello.Session, func() (uint64, <-chan struct{}, error) {
		applied := s.Replica.Changed()
		mark, err := s.mark(stream.Context(), hello)
		return mark, applied, err
	})
}

// mark is the committed mark of a session.
func (s *Server) mark(ctx context.Context, h *wire.Hello) (mark uint64, err error) {
	var sess fsm.Session
	look := func() (ok bool) {
		s.Replica.Read(func(st *fsm.State) { sess, ok = st.Session(h.Job, h.Session) })
		return ok && !sess.Expired
	}
	if !look() {
		if err := s.linearize(ctx); err != nil {
			return 0, fmt.Errorf("%w: this node cannot tell yet whether the session exists: %w", cluster.ErrUnavailable, err)
		}
		if !look() {
			return 0, fmt.Errorf("session %s of job %q: %w", h.Session, h.Job, cluster.ErrSession)
		}
	}
	return sess.Mark, nil
}

// linearize waits until this node's state contains every command that was
// answered before the call. Any replica can; one that finds no leader to ask
// within readPatience is unavailable.
func (s *Server) linearize(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	if err := s.Replica.Linearize(ctx); err != nil {
		return fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
	}
	return nil
}

// mustJob returns a job. That it does not exist is said only by a replica whose
// state is up to date: a node that has just started knows nothing yet.
func (s *Server) mustJob(ctx context.Context, id string) (*fsm.Job, error) {
	if j := s.job(id); j != nil {
		return j, nil
	}
	if err := s.linearize(ctx); err != nil {
		return nil, fmt.Errorf("%w: this node does not know job %q yet: %w", cluster.ErrUnavailable, id, err)
	}
	if j := s.job(id); j != nil {
		return j, nil
	}
	return nil, fmt.Errorf("job %q: %w", id, cluster.ErrNotFound)
}
