package fsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// Caps of the state. Every one is enforced when a command applies, so that a
// full table is a Rejected command and never a surprise in a snapshot.
const (
	MaxID       = 256     // bytes of a job, node, session or worker name, or an address
	MaxReason   = 4 << 10 // bytes of a status reason
	MaxSpec     = 1 << 20 // bytes of a job spec
	MaxJobs     = 10_000
	MaxSessions = 1 << 20 // of one job, tombstones included
)

func reject(format string, args ...any) Result {
	return Result{Outcome: Rejected, Reason: fmt.Sprintf(format, args...)}
}

// run applies one decoded command and returns the hashes of changed blobs.
func (s *State) run(cmd any, digest Hash) (Result, []Hash) {
	if c, ok := cmd.(Init); ok {
		return s.init(c), nil
	}
	if s.cluster == "" {
		return reject("the cluster is not initialised"), nil
	}
	if c, ok := cmd.(CreateJob); ok {
		return s.createJob(c)
	}
	id := jobOf(cmd)
	e, ok := s.jobs[id]
	if !ok {
		return reject("no job %q", id), nil
	}
	switch c := cmd.(type) {
	case Commit:
		return e.commit(c, digest)
	case Grant:
		return e.grant(c), nil
	case OpenSession:
		return e.openSession(c), nil
	case ExpireSession:
		return e.expireSession(c), nil
	case SetStatus:
		return e.setStatus(c), nil
	}
	return reject("%T has no rule", cmd), nil
}

func jobOf(cmd any) string {
	switch c := cmd.(type) {
	case Commit:
		return c.Job
	case Grant:
		return c.Job
	case OpenSession:
		return c.Job
	case ExpireSession:
		return c.Job
	case SetStatus:
		return c.Job
	}
	return ""
}

// checkName refuses empty and oversized identifiers.
func checkName(what, name string) *Result {
	if name == "" || len(name) > MaxID {
		r := reject("%s has %d bytes; want 1 to %d", what, len(name), MaxID)
		return &r
	}
	return nil
}

func (s *State) init(c Init) Result {
	if r := checkName("cluster id", c.ClusterID); r != nil {
		return *r
	}
	switch s.cluster {
	case c.ClusterID:
		return Result{Outcome: AlreadyApplied}
	case "":
		s.cluster, s.created = c.ClusterID, c.Stamp
		return Result{Outcome: Applied}
	}
	return reject("the cluster is already %q", s.cluster)
}

func (s *State) createJob(c CreateJob) (Result, []Hash) {
	if r := checkName("job id", c.Job); r != nil {
		return *r, nil
	}
	if e, ok := s.jobs[c.Job]; ok {
		if bytes.Equal(e.Spec, c.Spec) && e.Updates == c.Updates {
			return Result{Outcome: AlreadyApplied}, nil
		}
		return reject("job %q exists with another spec", c.Job), nil
	}
	switch {
	case len(c.Spec) > MaxSpec:
		return reject("spec of %d bytes; the cap is %d", len(c.Spec), MaxSpec), nil
	case c.Updates < 0:
		return reject("a budget of %d updates; want 0 or more", c.Updates), nil
	case len(s.jobs) >= MaxJobs:
		return reject("the cluster has %d jobs already", MaxJobs), nil
	}
	s.jobs[c.Job] = &entry{
		Job:      Job{ID: c.Job, Spec: c.Spec, Updates: c.Updates, Status: Running, Created: c.Stamp},
		sessions: map[string]Session{},
	}
	return Result{Outcome: Applied}, []Hash{sha256.Sum256(c.Spec)}
}

func (e *entry) grant(c Grant) Result {
	if r := checkName("node", c.Node); r != nil {
		return *r
	}
	switch {
	case len(c.Addr) > MaxID:
		return reject("address of %d bytes; the cap is %d", len(c.Addr), MaxID)
	case c.Epoch != e.Epoch+1:
		return Result{Outcome: Fenced}
	case e.Status != Running:
		return reject("job %q is %s", e.ID, e.Status)
	}
	e.Epoch, e.Learner, e.LearnerAddr = c.Epoch, c.Node, c.Addr
	return Result{Outcome: Applied}
}

func (e *entry) openSession(c OpenSession) Result {
	if old, ok := e.sessions[c.Session]; ok {
		switch {
		case old.Worker != c.Worker || old.Slot != c.Slot:
			return reject("session %q belongs to worker %q slot %d", c.Session, old.Worker, old.Slot)
		case old.Expired:
			return reject("session %q is expired", c.Session)
		}
		return Result{Outcome: AlreadyApplied, Mark: old.Mark}
	}
	if r := checkName("session id", c.Session); r != nil {
		return *r
	}
	if r := checkName("worker id", c.Worker); r != nil {
		return *r
	}
	switch {
	case c.Slot < 0:
		return reject("slot %d; want 0 or more", c.Slot)
	case e.Status != Running && e.Status != Paused:
		return reject("job %q is %s", e.ID, e.Status)
	case len(e.sessions) >= MaxSessions:
		return reject("job %q has had %d sessions already", e.ID, MaxSessions)
	}
	e.sessions[c.Session] = Session{ID: c.Session, Worker: c.Worker, Slot: c.Slot, Opened: c.Stamp}
	e.Job.Sessions++
	return Result{Outcome: Applied}
}

func (e *entry) expireSession(c ExpireSession) Result {
	old, ok := e.sessions[c.Session]
	switch {
	case !ok:
		return reject("no session %q in job %q", c.Session, e.ID)
	case old.Expired:
		return Result{Outcome: AlreadyApplied, Mark: old.Mark}
	}
	old.Expired, old.Ended = true, c.Stamp
	e.sessions[c.Session] = old
	e.Job.Sessions--
	return Result{Outcome: Applied, Mark: old.Mark}
}

// setStatus moves between running, paused, stopped and failed in any order; a
// finished job stays finished, and only a Commit finishes one.
func (e *entry) setStatus(c SetStatus) Result {
	switch c.Status {
	case Running, Paused, Stopped, Failed:
	default:
		return reject("status %q cannot be set", c.Status)
	}
	switch {
	case e.Status == Finished:
		return reject("job %q is finished", e.ID)
	case len(c.Reason) > MaxReason:
		return reject("reason of %d bytes; the cap is %d", len(c.Reason), MaxReason)
	case !c.Fence && c.Status == e.Status && c.Reason == e.Reason:
		return Result{Outcome: AlreadyApplied}
	}
	e.Status, e.Reason = c.Status, c.Reason
	if c.Fence {
		e.Epoch++
		e.Learner, e.LearnerAddr = "", ""
	}
	return Result{Outcome: Applied}
}
