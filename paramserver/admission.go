package paramserver

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// ErrGap means that a session's stream skipped a trajectory; the stream is
// closed, and the worker resumes at the learner's next.
var ErrGap = errors.New("gap in the trajectory stream")

// ErrCredit means that a session sent what it had no credit for; the stream is
// closed. Credit is what keeps the queue bounded.
var ErrCredit = errors.New("trajectories beyond the credit")

// Admission is the learner's half of "trajectories count once": admission and a
// FIFO of trajectories that wait to be trained on, as a pure machine. Each
// trajectory of a session gets exactly one disposition, in order: admitted
// (trained on), stale, or refused. Marks collects them for the next Commit, so
// a mark never covers a trajectory whose update is not in the same state.
//
// Invariants, per session: settled < next; settled+1..next-1 are in the queue;
// credit never goes back.
type Admission struct {
	capacity int // trajectories waiting, over all sessions, but for each one's last rollout
	rollout  int // trajectories that a worker sends at once
	bounds   Bounds
	ages     *ages     // of versions, for a bound in seconds
	now      time.Time // of the Take under way

	queue    []wire.Trajectory
	head     int
	sessions map[string]*stream
	order    []string // sessions in order of opening, for deterministic marks
	active   int      // sessions with a stream

	Duplicates uint64 // trajectories received again and dropped
	// OnStale, when set, sees every trajectory that is dropped as stale, before
	// it is gone.
	OnStale func(*wire.Trajectory)
}

type stream struct {
	next    uint64 // next sequence number wanted
	settled uint64 // last one with a disposition
	credit  uint64 // highest one the worker may send
	pending fsm.Mark
	streams int // connections that carry it now
}

// NewAdmission makes an empty queue for capacity trajectories, at least as many as
// are taken at once, from workers that send rollout at once.
func NewAdmission(capacity, rollout int, bounds Bounds) *Admission {
	return &Admission{capacity: capacity, rollout: rollout, bounds: bounds, ages: newAges(), sessions: map[string]*stream{}}
}

// Committed notes when a version was committed, in Unix nanoseconds: the age of
// what is sampled with it counts from there.
func (a *Admission) Committed(version uint64, stamp int64) { a.ages.committed(version, stamp) }

// Open begins, or continues, the stream of a session whose committed mark is
// mark; it returns the next sequence number wanted.
func (a *Admission) Open(session string, mark uint64) uint64 {
	s := a.sessions[session]
	if s == nil {
		s = &stream{next: mark + 1, settled: mark, pending: fsm.Mark{Session: session}}
		a.sessions[session] = s
		a.order = append(a.order, session)
		slices.Sort(a.order)
	}
	if s.streams++; s.streams == 1 {
		a.active++
	}
	return s.next
}

// Offer takes consecutive trajectories of one session. What the learner has is
// dropped as a duplicate. At a gap it ends with ErrGap; what came before is taken.
func (a *Admission) Offer(session string, batch []wire.Trajectory) error {
	s := a.sessions[session]
	if s == nil {
		return fmt.Errorf("session %s: %w", session, cluster.ErrSession)
	}
	for i := range batch {
		t := &batch[i]
		switch {
		case t.Seq < s.next:
			a.Duplicates++
			continue
		case t.Seq > s.next:
			return fmt.Errorf("session %s: trajectory %d after %d: %w", session, t.Seq, s.next-1, ErrGap)
		}
		s.next++
		t.Session = session
		if math.IsNaN(t.LogReward) || math.IsInf(t.LogReward, 0) || math.IsInf(t.LogBehaviour, 0) {
			t.Actions = nil // refused when its turn comes
		}
		a.queue = append(a.queue, *t)
	}
	return nil
}

// Take removes and returns the n oldest trajectories that may be trained on at
// version and now, or none while there are fewer. Stale and refused ones before
// them get their dispositions on the way; stale ones that are trained on all the
// same get a weight below 1 where the bounds say so.
func (a *Admission) Take(n int, version uint64, now time.Time, dst []wire.Trajectory) []wire.Trajectory {
	a.now = now
	fresh := 0
	for i := a.head; i < len(a.queue) && fresh < n; i++ {
		if a.usable(&a.queue[i], version) {
			fresh++
		}
	}
	if fresh < n {
		if fresh < a.Waiting() {
			a.sweep(version)
		}
		return dst[:0]
	}
	dst = dst[:0]
	var s *stream // of the trajectory before: they come in runs
	for len(dst) < n {
		t := &a.queue[a.head]
		if a.usable(t, version) {
			if s == nil || s.pending.Session != t.Session {
				s = a.sessions[t.Session]
			}
			s.settled = t.Seq
			s.pending.Seq = t.Seq
			s.pending.Admitted++
			t.Weight = 1
			if a.bounds.OnStale == "downweight" {
				t.Weight = a.weight(t, version)
			}
			dst = append(dst, *t)
			*t = wire.Trajectory{}
			a.head++
			continue
		}
		a.settle(t, version)
		a.head++
	}
	a.compact()
	return dst
}

// sweep settles what can never be used and follows nothing of its session that
// can, wherever it stands in the queue. It frees its senders' credit: while a
// session's share is stale, others alone need not have the credit for a batch,
// and without a batch no version, and nothing fresh, would ever come.
func (a *Admission) sweep(version uint64) {
	waiting := a.queue[a.head:]
	kept := waiting[:0]
	held := map[string]bool{} // sessions with something usable before
	for i := range waiting {
		t := &waiting[i]
		if !held[t.Session] && !a.usable(t, version) {
			a.settle(t, version)
			continue
		}
		held[t.Session] = true
		kept = append(kept, *t)
	}
	clear(waiting[len(kept):])
	a.queue = a.queue[:a.head+len(kept)]
	a.compact()
}

// Refuse changes the disposition of a trajectory that Take just returned:
// replaying its actions failed.
func (a *Admission) Refuse(t *wire.Trajectory) {
	s := a.sessions[t.Session]
	s.pending.Admitted--
	s.pending.Refused++
}

// usable says whether a trajectory may be trained on by a learner at version.
// What it was sampled with was committed before, by this learner or one before
// it, so a later version than the learner's own is nonsense.
func (a *Admission) usable(t *wire.Trajectory, version uint64) bool {
	return t.Actions != nil && t.Version <= version && !a.stale(t, version)
}

func (a *Admission) stale(t *wire.Trajectory, version uint64) bool {
	return a.bounds.OnStale == "drop" && t.Version <= version && a.weight(t, version) < 1
}

// weight is what the bounds make of a trajectory.
func (a *Admission) weight(t *wire.Trajectory, version uint64) float64 {
	var age time.Duration
	if a.bounds.MaxAge > 0 {
		age = a.ages.least(t.Version, a.now)
	}
	return a.bounds.Weight(int64(version-t.Version), age)
}

// settle gives the oldest trajectory of its session its disposition without
// training on it; the caller takes it out of the queue.
func (a *Admission) settle(t *wire.Trajectory, version uint64) {
	s := a.sessions[t.Session]
	s.settled = t.Seq
	s.pending.Seq = t.Seq
	if t.Actions != nil && a.stale(t, version) {
		s.pending.Stale++
		if a.OnStale != nil {
			a.OnStale(t)
		}
	} else {
		s.pending.Refused++
	}
	*t = wire.Trajectory{}
}

func (a *Admission) compact() {
	if a.head == len(a.queue) {
		a.queue, a.head = a.queue[:0], 0
	} else if a.head > 1024 && a.head > len(a.queue)/2 {
		n := copy(a.queue, a.queue[a.head:])
		clear(a.queue[n:])
		a.queue, a.head = a.queue[:n], 0
	}
}

// Marks returns the progress of every session since the last call, ordered by
// session, for the next Commit.
func (a *Admission) Marks() []fsm.Mark {
	var out []fsm.Mark
	for _, id := range a.order {
		s := a.sessions[id]
		if s.pending.Seq == 0 {
			continue
		}
		out = append(out, s.pending)
		s.pending = fsm.Mark{Session: id}
	}
	return out
}

// Credit is the highest sequence number that the session may send now: its
// fair share of the queue beyond what the learner has settled. Workers send
// whole rollouts, so there is room for the one that reaches the share: together
// the sessions can always fill the queue's capacity, and no batch starves.
func (a *Admission) Credit(session string) uint64 {
	s := a.sessions[session]
	if s == nil {
		return 0
	}
	s.credit = max(s.credit, s.settled+uint64(a.share()+a.rollout-1))
	return s.credit
}

// share is a session's part of the queue.
func (a *Admission) share() int {
	n := max(1, a.active)
	return (a.capacity + n - 1) / n
}

// Short says whether a session that was told of credit up to told should hear of
// more: less than half of its share, or of two rollouts, is left of it. A session
// that is not short can send, so that nothing waits for what it was not told.
func (a *Admission) Short(session string, told uint64) bool {
	s := a.sessions[session]
	return s != nil && told < s.next-1+uint64(max(a.share()/2, 2*a.rollout))
}

// Granted is the credit that the session was last told of.
func (a *Admission) Granted(session string) uint64 {
	if s := a.sessions[session]; s != nil {
		return s.credit
	}
	return 0
}

// Waiting is the number of trajectories in the queue.
func (a *Admission) Waiting() int { return len(a.queue) - a.head }

// Close ends one stream of a session, and with the last one the session's
// claim to a share of the queue; what it delivered is settled in its turn.
func (a *Admission) Close(session string) {
	if s := a.sessions[session]; s != nil {
		if s.streams--; s.streams == 0 {
			a.active--
		}
	}
}
