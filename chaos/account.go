package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
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
	adopted  map[wire.Position]string // hash of the parameters
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
	last uint64
	at   int64 // Unix nanoseconds
}

type proposal struct {
	node, job    string
	epoch        uint64
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
	return &Account{sessions: map[string]*stream{}, adopted: map[wire.Position]string{}}
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
		a.proposals = append(a.proposals, &proposal{node: node, job: e.Job, epoch: e.Epoch, version: e.Version, sent: e.Time})
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
		s.sampled = append(s.sampled, run{e.Last, e.Time})
	case journal.Marked:
		if e.Last > s.top() {
			a.breach("%w: session %s was given mark %d and had sampled %d", ErrMiscounted, e.Session, e.Last, s.top())
		}
		s.marks = append(s.marks, run{e.Last, e.Time})
	case journal.Adopted:
		at := wire.Position{Generation: e.Generation, Version: e.Version}
		if s.began && at.Before(s.at) {
			a.breach("%w: session %s adopted version %d after %d", ErrRegression, e.Session, at.Version, s.at.Version)
		}
		s.at, s.began = at, true
		if old, ok := a.adopted[at]; ok && old != e.Digest {
			a.breach("%w: version %d was published as %s and as %s", ErrLost, at.Version, old, e.Digest)
		}
		a.adopted[at] = e.Digest
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

// Check holds the servers' count, read after the moment since (Unix nanoseconds)
// while the job was at rest, against the journals, read after that: nobody's mark covers what its worker has not sampled, no worker
// holds a mark that the state does not, and each update was made of a batch of
// trajectories that count once.
func (a *Account) Check(s *wire.StateReply, batch int, since int64) error {
	out := slices.Clone(a.broken)
	known := map[string]bool{}
	var admitted, total uint64
	for _, x := range s.Sessions {
		known[x.ID] = true
		admitted += x.Admitted
		total += x.Mark
		own := a.sessions[x.ID]
		switch {
		case x.Admitted+x.Stale+x.Refused != x.Mark:
			out = append(out, fmt.Errorf("%w: session %s has mark %d and %d+%d+%d dispositions", ErrMiscounted, x.ID, x.Mark, x.Admitted, x.Stale, x.Refused))
		case own == nil && x.Mark > 0:
			out = append(out, fmt.Errorf("%w: session %s counts %d trajectories, no worker ever had it", ErrMiscounted, x.ID, x.Mark))
		case own != nil && x.Mark > own.top():
			out = append(out, fmt.Errorf("%w: session %s counts %d trajectories, its worker sampled %d", ErrMiscounted, x.ID, x.Mark, own.top()))
		case own != nil && x.Mark < before(own.marks, since):
			out = append(out, fmt.Errorf("%w: session %s has mark %d, its worker was given %d", ErrUncounted, x.ID, x.Mark, before(own.marks, since)))
		case x.Refused > 0:
			out = append(out, fmt.Errorf("%w: session %s: %d trajectories of an honest worker were refused", ErrMiscounted, x.ID, x.Refused))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.sessions)) {
		if !known[id] && a.sessions[id].opened <= since {
			out = append(out, fmt.Errorf("%w: session %s was opened and is not in the state", ErrUncounted, id))
		}
	}
	if want := s.Info.Version * uint64(batch); admitted != want {
		out = append(out, fmt.Errorf("%w: %d updates of %d were made of %d trajectories, want %d", ErrMiscounted, s.Info.Version, batch, admitted, want))
	}
	if total != s.Info.Trajectories {
		out = append(out, fmt.Errorf("%w: the marks cover %d trajectories, the job counts %d", ErrMiscounted, total, s.Info.Trajectories))
	}
	return errors.Join(out...)
}
