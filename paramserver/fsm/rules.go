package fsm

import (
	"bytes"
	"cmp"
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

// Caps since level 2.
const (
	MaxWeight   = 1e6  // of a job
	MaxPriority = 1000 // of a job, and its negative
)

func reject(format string, args ...any) Result {
	return Result{Outcome: Rejected, Reason: fmt.Sprintf(format, args...)}
}

// admit refuses what the cluster is not ready for; else it answers Applied.
func (s *State) admit(cmd any) Result {
	if _, ok := cmd.(Init); !ok && s.cluster == "" {
		return reject("the cluster is not initialised")
	}
	if _, ok := cmd.(Activate); !ok && Level(cmd) > s.FeatureLevel() {
		return reject("this %T needs feature level %d; the cluster is at %d", cmd, Level(cmd), s.FeatureLevel())
	}
	return Result{Outcome: Applied}
}

// run applies one admitted command and returns the hashes of changed blobs.
func (s *State) run(cmd any, sums digests) (Result, []Hash) {
	res, changed := s.dispatch(cmd, sums)
	if res.Outcome == Applied {
		s.record(eventOf(cmd, s.jobs[jobOf(cmd)]))
	}
	return res, changed
}

func (s *State) dispatch(cmd any, sums digests) (Result, []Hash) {
	switch c := cmd.(type) {
	case Init:
		return s.init(c), nil
	case Activate:
		return s.activate(c), nil
	case CreateJob:
		return s.createJob(c)
	case Note:
		return c.check(), nil
	}
	id := jobOf(cmd)
	e, ok := s.jobs[id]
	if !ok {
		return reject("no job %q", id), nil
	}
	switch c := cmd.(type) {
	case Commit:
		return e.commit(c, sums)
	case Grant:
		return e.grant(c), nil
	case OpenSession:
		return e.openSession(c), nil
	case ExpireSession:
		return e.expireSession(c), nil
	case SetStatus:
		return e.setStatus(c), nil
	case SetShare:
		return e.setShare(c), nil
	case Compact:
		return e.compact(c), nil
	}
	return reject("%T has no rule", cmd), nil
}

func jobOf(cmd any) string {
	switch c := cmd.(type) {
	case CreateJob:
		return c.Job
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
	case SetShare:
		return c.Job
	case Compact:
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
	weight := cmp.Or(c.Weight, 1)
	if r := checkShare(weight, c.Priority); r != nil {
		return *r, nil
	}
	switch {
	case len(c.Spec) > MaxSpec:
		return reject("spec of %d bytes; the cap is %d", len(c.Spec), MaxSpec), nil
	case c.Updates < 0:
		return reject("a budget of %d updates; want 0 or more", c.Updates), nil
	case len(s.jobs) >= MaxJobs:
		return reject("the cluster has %d jobs already", MaxJobs), nil
	}
	s.jobs[c.Job] = newEntry(Job{
		ID: c.Job, Spec: c.Spec, Updates: c.Updates, Status: Running, Generation: s.generation,
		Created: c.Stamp, Weight: weight, Priority: c.Priority,
	})
	return Result{Outcome: Applied}, []Hash{sha256.Sum256(c.Spec)}
}

func (e *entry) grant(c Grant) Result {
	if r := checkName("node", c.Node); r != nil {
		return *r
	}
	switch {
	case len(c.Addr) > MaxID:
		return reject("address of %d bytes; the cap is %d", len(c.Addr), MaxID)
	case len(c.Reason) > MaxReason:
		return reject("reason of %d bytes; the cap is %d", len(c.Reason), MaxReason)
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
	e.open[c.Session] = struct{}{}
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
	delete(e.open, c.Session)
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

// checkShare refuses what the slots of the workers cannot be shared by.
func checkShare(weight float64, priority int) *Result {
	var r Result
	switch {
	case !(weight > 0 && weight <= MaxWeight): // also NaN
		r = reject("weight %v; want more than 0 and at most %v", weight, float64(MaxWeight))
	case priority < -MaxPriority || priority > MaxPriority:
		r = reject("priority %d; want %d to %d", priority, -MaxPriority, MaxPriority)
	default:
		return nil
	}
	return &r
}

func (e *entry) setShare(c SetShare) Result {
	if r := checkShare(c.Weight, c.Priority); r != nil {
		return *r
	}
	switch {
	case e.Status == Finished:
		return reject("job %q is finished", e.ID)
	case c.Weight == e.Weight && c.Priority == e.Priority:
		return Result{Outcome: AlreadyApplied}
	}
	e.Weight, e.Priority = c.Weight, c.Priority
	return Result{Outcome: Applied}
}
