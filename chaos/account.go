package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Invariants of counting.
var (
	// ErrMiscounted: trajectories count twice, or some that nobody sampled.
	ErrMiscounted = errors.New("trajectories are miscounted")
	// ErrUncounted: a worker was told that a trajectory counts, and it does not.
	ErrUncounted = errors.New("a trajectory was lost after its mark")
)

// Account is what the workers' own journals say about trajectories, to be held
// against what the servers count. It is not safe for concurrent use.
type Account struct {
	sessions map[string]*stream
	adopted  map[wire.Position]adoption
	broken   []error
	// What the learners' journals say.
	proposals []*proposal
	fenced    int // runs of learners that ended because they were fenced
}

// stream is one session as its worker saw it.
type stream struct {
	node    string
	opened  int64 // Unix nanoseconds
	sampled []run // contiguous from 1, in order
	marks   []run // last is the mark; at when it came
	at      wire.Position
	began   bool // at holds something
}

type run struct {
	last    uint64
	at      int64  // Unix nanoseconds
	version uint64 // sampled with
}

// adoption is a version as workers sampled with it.
type adoption struct {
	digest string // of its parameters
	epoch  uint64 // that it was committed under
}

type proposal struct {
	node, job    string
	epoch        uint64
	generation   uint64
	version      uint64
	sent, answer int64 // Unix nanoseconds; answer 0: none yet
	committed    bool
}

// forgotten is how long a proposal without an answer counts as under way, in ns:
// a killed learner's journal does not say when it ended.
const forgotten = int64(5 * time.Second)

// longAgo, in ns, bounds how far back answers that are due are looked for.
const longAgo = int64(time.Minute)

// NewAccount returns an empty account.
func NewAccount() *Account {
	return &Account{sessions: map[string]*stream{}, adopted: map[wire.Position]adoption{}}
}

func (a *Account) breach(format string, args ...any) {
	a.broken = append(a.broken, fmt.Errorf(format, args...))
}

// Take adds an entry of a node's journal; of one node they come in order.
func (a *Account) Take(node string, e journal.Entry) {
	switch e.Kind {
	case journal.Opened:
		if _, ok := a.sessions[e.Session]; ok || e.Last != 0 {
			a.breach("%w: session %s was opened twice, with mark %d", ErrMiscounted, e.Session, e.Last)
			return
		}
		a.sessions[e.Session] = &stream{node: node, opened: e.Time}
	case journal.Sampled, journal.Marked, journal.Adopted:
		s := a.sessions[e.Session]
		if s == nil {
			a.breach("%w: %s of a session %s that was never opened", ErrMiscounted, e.Kind, e.Session)
			return
		}
		a.take(s, e)
	case journal.Proposed:
		a.proposals = append(a.proposals, &proposal{node: node, job: e.Job, epoch: e.Epoch, generation: e.Generation, version: e.Version, sent: e.Time})
	case journal.Committed:
		for _, p := range slices.Backward(a.proposals) {
			if p.job == e.Job && p.epoch == e.Epoch && p.version == e.Version && p.answer == 0 {
				p.answer, p.committed = e.Time, true
				break
			}
		}
	case journal.Started, journal.Ended:
		if strings.Contains(e.Detail, "fenced") {
			a.fenced++
		}
		for _, p := range a.proposals {
			if p.node == node && p.answer == 0 && (e.Kind == journal.Started || p.job == e.Job && p.epoch == e.Epoch) {
				p.answer = e.Time
			}
		}
	}
}

func (a *Account) take(s *stream, e journal.Entry) {
	switch e.Kind {
	case journal.Sampled:
		if e.First != s.top()+1 || e.Last < e.First {
			a.breach("%w: session %s sampled %d to %d after %d", ErrMiscounted, e.Session, e.First, e.Last, s.top())
		}
		s.sampled = append(s.sampled, run{e.Last, e.Time, e.Version})
	case journal.Marked:
		if e.Last > s.top() {
			a.breach("%w: session %s was given mark %d and had sampled %d", ErrMiscounted, e.Session, e.Last, s.top())
		}
		s.marks = append(s.marks, run{last: e.Last, at: e.Time})
	case journal.Adopted:
		at := wire.Position{Generation: e.Generation, Version: e.Version}
		if s.began && at.Before(s.at) {
			a.breach("%w: session %s adopted version %d after %d", ErrRegression, e.Session, at.Version, s.at.Version)
		}
		s.at, s.began = at, true
		now := adoption{e.Digest, e.Epoch}
		if old, ok := a.adopted[at]; ok && old != now {
			a.breach("%w: version %d was published as %s of epoch %d and as %s of epoch %d", ErrLost, at.Version, old.digest, old.epoch, now.digest, now.epoch)
		}
		a.adopted[at] = now
	}
}

func (s *stream) top() uint64 { return last(s.sampled) }

func last(rs []run) uint64 {
	if len(rs) == 0 {
		return 0
	}
	return rs[len(rs)-1].last
}

// before returns the last of rs at a time.
func before(rs []run, at int64) (out uint64) {
	for _, r := range slices.Backward(rs) {
		if r.at <= at {
			return r.last
		}
	}
	return 0
}

// Overlap says whether something was under way in the interval from, to (Unix
// nanoseconds): a commit that had been proposed and not answered, and a
// trajectory that had been sampled and not acknowledged.
func (a *Account) Overlap(from, to int64) (commit, trajectory bool) {
	for _, p := range slices.Backward(a.proposals) {
		if commit || p.sent < from-longAgo {
			break
		}
		commit = commit || p.sent <= to && (p.answer >= from || p.answer == 0 && p.sent >= from-forgotten)
	}
	for _, s := range a.sessions {
		trajectory = trajectory || before(s.sampled, to) > before(s.marks, from)
	}
	return commit, trajectory
}

// Sampled counts the trajectories of all sessions that were sampled in the
// interval from, to (Unix nanoseconds).
func (a *Account) Sampled(from, to int64) (n uint64) {
	for _, s := range a.sessions {
		n += before(s.sampled, to) - before(s.sampled, from)
	}
	return n
}

// Next returns the first commit that was proposed after a moment (Unix
// nanoseconds), under an epoch greater than above, and is known to be in the log.
func (a *Account) Next(after int64, above uint64) (version uint64, ok bool) {
	first, _ := slices.BinarySearchFunc(a.proposals, after, func(p *proposal, at int64) int { return cmp.Compare(p.sent, at-longAgo) })
	for _, p := range a.proposals[first:] { // roughly in order of time: several journals are read
		if p.committed && p.sent > after && p.epoch > above {
			return p.version, true
		}
	}
	return 0, false
}

// Commits counts the commits that were proposed after a moment (Unix nanoseconds)
// and are known to be in the log.
func (a *Account) Commits(after int64) (n int) {
	for _, p := range slices.Backward(a.proposals) { // roughly in order of time
		if p.sent < after-longAgo {
			break
		}
		if p.committed && p.sent > after {
			n++
		}
	}
	return n
}

// Pause returns the longest time in the interval from, to (Unix nanoseconds) in
// which nobody sampled.
func (a *Account) Pause(from, to int64) time.Duration {
	var at []int64
	for _, s := range a.sessions {
		for _, r := range slices.Backward(s.sampled) {
			if r.at < from {
				break
			}
			if r.at <= to {
				at = append(at, r.at)
			}
		}
	}
	slices.Sort(at)
	longest, before := int64(0), from
	for _, t := range append(at, to) {
		longest, before = max(longest, t-before), t
	}
	return time.Duration(longest)
}

// Nodes returns the nodes that have sampled since a moment (Unix nanoseconds).
func (a *Account) Nodes(since int64) map[string]bool {
	out := map[string]bool{}
	for _, s := range a.sessions {
		if n := len(s.sampled); n > 0 && s.sampled[n-1].at > since {
			out[s.node] = true
		}
	}
	return out
}
