package fsm

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Hash is a SHA-256 digest.
type Hash = [sha256.Size]byte

// ErrIndex says that log entries came out of order.
var ErrIndex = errors.New("log index or term does not advance")

// Job is the replicated state of one job. Spec, Params and Private are shared
// with the state machine and must not be written to; a Commit replaces them.
type Job struct {
	ID      string `msgpack:"i"`
	Spec    []byte `msgpack:"-"` // as submitted
	Updates int64  `msgpack:"u"` // budget in optimiser steps
	Status  Status `msgpack:"s"`
	Reason  string `msgpack:"r"` // of the last SetStatus

	Generation  uint64 `msgpack:"g"` // State.Generation at its creation or the last restore
	Epoch       uint64 `msgpack:"e"` // of the present lease; 0 before the first Grant
	Learner     string `msgpack:"l"` // node that holds the lease, "" after a fence
	LearnerAddr string `msgpack:"a"` // its gRPC address

	HasState    bool   `msgpack:"h"` // false until the first Commit
	Version     uint64 `msgpack:"v"` // optimiser steps since the job began
	CommitEpoch uint64 `msgpack:"ce"`
	Params      []byte `msgpack:"-"`  // little-endian float32, published
	Private     []byte `msgpack:"-"`  // learner state that is not published
	ParamsHash  Hash   `msgpack:"ph"` // SHA-256 of Params
	StateHash   Hash   `msgpack:"sh"` // over the hashes of Params and Private

	Admitted uint64 `msgpack:"na"` // trajectories trained on
	Stale    uint64 `msgpack:"nl"` // dropped as too old
	Refused  uint64 `msgpack:"nr"` // malformed or non-finite
	Sessions int    `msgpack:"ns"` // open ones

	Created   int64 `msgpack:"tc"` // Unix nanoseconds by the proposer
	Committed int64 `msgpack:"tv"` // stamp of the last Commit

	// Since level 2; snapshots of format 1 do not have them.
	Weight       float64 `msgpack:"-"` // share of the workers' slots among jobs of equal priority
	Priority     int     `msgpack:"-"` // jobs of higher priority take slots first
	Segments     int     `msgpack:"-"` // archive segments listed
	ArchivedRows int64   `msgpack:"-"` // rows of the listed segments
}

// Trajectories counts every trajectory that a committed mark covers, whatever
// its disposition.
func (j *Job) Trajectories() uint64 { return j.Admitted + j.Stale + j.Refused }

// Session is one incarnation of a worker slot for a job. Expired sessions stay
// as tombstones, so that an old incarnation is never taken for a new one.
type Session struct {
	ID       string `msgpack:"i"`
	Worker   string `msgpack:"w"`
	Slot     int    `msgpack:"n"`
	Mark     uint64 `msgpack:"q"` // every trajectory up to this sequence number is counted
	Admitted uint64 `msgpack:"a"`
	Stale    uint64 `msgpack:"l"`
	Refused  uint64 `msgpack:"r"`
	Expired  bool   `msgpack:"x"`
	Opened   int64  `msgpack:"to"` // stamps by the proposers
	Ended    int64  `msgpack:"te"` // 0 while open
}

// recentCommits is how many Commits of a job are remembered by their hash: the
// two that a learner may have in flight, and as many before.
const recentCommits = 4

// entry is a job with what only the state machine needs.
type entry struct {
	Job
	sessions map[string]Session
	open     map[string]struct{} // sessions that are not expired
	best     []Object            // sorted; replaced, never modified
	recent   []Hash              // hashes of the last Commits, newest last; replaced, never modified
	segments []Segment           // in the order of their Commits; appended to or replaced
	ranges   int                 // of all segments

	privateHash Hash // SHA-256 of Private
}

func newEntry(j Job) *entry {
	return &entry{Job: j, sessions: map[string]Session{}, open: map[string]struct{}{}, privateHash: sha256.Sum256(nil)}
}

// State is the whole replicated state. It is a plain value machine: no clock,
// no lock, no I/O. The zero value is not ready; use New.
type State struct {
	cluster string
	created int64
	index   uint64
	chain   Hash
	jobs    map[string]*entry

	// Since level 2; empty before it is activated.
	level       uint8
	generation  uint64
	term        uint64 // of the last command; 0 after a snapshot of level 1
	pending     []transfer
	events      []Event // appended to or replaced
	checkpoints []Checkpoint
}

// New returns the empty state, before the first command.
func New() *State { return &State{jobs: map[string]*entry{}} }

// Apply runs one log entry of a raft term. The Result is the definite answer,
// the same on every replica. A non-nil error means that this replica must
// stop: the entry comes from a newer build (ErrUnknownCommand) or out of order
// (ErrIndex); the state is then unchanged. Bytes that are no command are
// Rejected. data must not be written to any more.
func (s *State) Apply(index, term uint64, data []byte) (Result, error) {
	return s.ApplyPrepared(index, term, Prepare(data))
}

// ApplyPrepared is Apply for an entry that was looked at before.
func (s *State) ApplyPrepared(index, term uint64, p *Prepared) (Result, error) {
	if index <= s.index || term < s.term {
		return Result{}, fmt.Errorf("%w: entry %d of term %d after %d of term %d", ErrIndex, index, term, s.index, s.term)
	}
	cmd, err := p.cmd, p.err
	if errors.Is(err, ErrUnknownCommand) {
		return Result{}, fmt.Errorf("log entry %d: %w", index, err)
	}
	changed := s.dropTransfers(index, term)
	before := s.index
	s.index, s.term = index, term
	var res Result
	var more []Hash
	if err != nil {
		res = reject("%v", err)
	} else if res = s.admit(cmd); res.Outcome == Applied {
		if c, ok := cmd.(Chunk); ok {
			res, more = s.chunk(c)
		} else {
			res, more = s.run(cmd, p.sums)
		}
	}
	s.link(p.sums.command, append(changed, more...))
	s.checkpoint(before)
	return res, nil
}

// decodeEntry decodes a log entry. It looks into the first part of a chunked
// command too, so that a replica stops before it takes what it cannot apply.
func decodeEntry(data []byte) (any, error) {
	if len(data) > MaxWhole {
		return nil, fmt.Errorf("%w: %d bytes in one entry; the cap is %d", ErrTooLarge, len(data), MaxWhole)
	}
	cmd, err := Decode(data)
	if err != nil {
		return nil, err
	}
	if c, ok := cmd.(Chunk); ok && c.Part == 0 {
		return cmd, checkHeader(c.Data)
	}
	return cmd, nil
}

// ClusterID is the cluster's identity, "" before Init.
func (s *State) ClusterID() string { return s.cluster }

// Generation counts the restores of the cluster. With a job's version it orders
// everything that was ever published: what has a higher generation is newer.
func (s *State) Generation() uint64 { return s.generation }

// Index is the log index of the last command applied.
func (s *State) Index() uint64 { return s.index }

// Job returns a copy of a job that shares its immutable blobs.
func (s *State) Job(id string) (*Job, bool) {
	e, ok := s.jobs[id]
	if !ok {
		return nil, false
	}
	j := e.Job
	return &j, true
}

// Jobs returns every job, as Job does, sorted by ID.
func (s *State) Jobs() []*Job {
	out := make([]*Job, 0, len(s.jobs))
	for _, e := range s.jobs {
		j := e.Job
		out = append(out, &j)
	}
	slices.SortFunc(out, func(a, b *Job) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Session returns one session of a job, expired ones included.
func (s *State) Session(job, session string) (Session, bool) {
	e, ok := s.jobs[job]
	if !ok {
		return Session{}, false
	}
	se, ok := e.sessions[session]
	return se, ok
}

// Sessions returns the sessions of a job sorted by ID, expired ones included;
// nil for an unknown job.
func (s *State) Sessions(job string) []Session {
	e, ok := s.jobs[job]
	if !ok {
		return nil
	}
	return e.sortedSessions()
}

// OpenSessions returns the sessions of a job that are not expired, sorted by
// ID, without a look at the expired ones; nil for an unknown job.
func (s *State) OpenSessions(job string) []Session {
	e, ok := s.jobs[job]
	if !ok {
		return nil
	}
	out := make([]Session, 0, len(e.open))
	for id := range e.open {
		out = append(out, e.sessions[id])
	}
	slices.SortFunc(out, func(a, b Session) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (e *entry) sortedSessions() []Session {
	return slices.SortedFunc(maps.Values(e.sessions), func(a, b Session) int { return cmp.Compare(a.ID, b.ID) })
}

// Best returns the best distinct objects of a job, by falling log-reward and
// then by text; nil for an unknown job.
func (s *State) Best(job string) []Object {
	e, ok := s.jobs[job]
	if !ok {
		return nil
	}
	return slices.Clone(e.best)
}

// View is the state at one index, frozen. It shares the blobs with the State
// that it came from and may be read from any goroutine.
type View struct{ state *State }

// Snapshot freezes the state. It copies tables, never blobs.
func (s *State) Snapshot() *View {
	c := *s
	c.jobs = make(map[string]*entry, len(s.jobs))
	for id, e := range s.jobs {
		frozen := *e
		frozen.sessions, frozen.open = maps.Clone(e.sessions), maps.Clone(e.open)
		c.jobs[id] = &frozen
	}
	c.pending = frozenTransfers(s.pending)
	return &View{state: &c}
}

// Index is the log index of the last command in the view.
func (v *View) Index() uint64 { return v.state.index }

// Chain is the hash chain at Index.
func (v *View) Chain() Hash { return v.state.chain }

// Read calls f with the frozen state. f must not apply commands to it.
func (v *View) Read(f func(*State)) { f(v.state) }
