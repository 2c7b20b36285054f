package fsm

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Hash is a SHA-256 digest.
type Hash = [sha256.Size]byte

// ErrIndex says that log entries came out of order.
var ErrIndex = errors.New("log index does not advance")

// Job is the replicated state of one job. Spec, Params and Private are shared
// with the state machine and must not be written to; a Commit replaces them.
type Job struct {
	ID      string `msgpack:"i"`
	Spec    []byte `msgpack:"-"` // as submitted
	Updates int64  `msgpack:"u"` // budget in optimiser steps
	Status  Status `msgpack:"s"`
	Reason  string `msgpack:"r"` // of the last SetStatus

	Generation  uint64 `msgpack:"g"` // incremented by every restore
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
	best     []Object // sorted; replaced, never modified
	recent   []Hash   // hashes of the last Commits, newest last; replaced, never modified
}

// State is the whole replicated state. It is a plain value machine: no clock,
// no lock, no I/O. The zero value is not ready; use New.
type State struct {
	cluster string
	created int64
	index   uint64
	chain   Hash
	jobs    map[string]*entry
}

// New returns the empty state, before the first command.
func New() *State { return &State{jobs: map[string]*entry{}} }

// Apply runs one log entry. The Result is the definite answer, the same on
// every replica. A non-nil error means that this replica must stop: the entry
// comes from a newer build (ErrUnknownCommand) or out of order (ErrIndex); the
// state is then unchanged. Bytes that are no command are Rejected.
func (s *State) Apply(index uint64, data []byte) (Result, error) {
	if index <= s.index {
		return Result{}, fmt.Errorf("%w: entry %d after %d", ErrIndex, index, s.index)
	}
	cmd, err := Decode(data)
	if errors.Is(err, ErrUnknownCommand) {
		return Result{}, fmt.Errorf("log entry %d: %w", index, err)
	}
	digest := sha256.Sum256(data)
	var res Result
	var changed []Hash
	if err != nil {
		res = reject("%v", err)
	} else {
		res, changed = s.run(cmd, digest)
	}
	s.index = index
	s.link(digest, changed)
	return res, nil
}

// link extends the hash chain: H(previous, index, command hash, hashes of the
// changed blobs). Rejected commands are part of it, so that replicas which
// judged an entry differently diverge visibly.
func (s *State) link(command Hash, changed []Hash) {
	h := sha256.New()
	h.Write(s.chain[:])
	h.Write(binary.LittleEndian.AppendUint64(nil, s.index))
	h.Write(command[:])
	for _, c := range changed {
		h.Write(c[:])
	}
	h.Sum(s.chain[:0])
}

// ClusterID is the cluster's identity, "" before Init.
func (s *State) ClusterID() string { return s.cluster }

// Index is the log index of the last command applied.
func (s *State) Index() uint64 { return s.index }

// Chain is the hash chain at Index: equal on every replica at the same index.
func (s *State) Chain() Hash { return s.chain }

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
		frozen.sessions = maps.Clone(e.sessions)
		c.jobs[id] = &frozen
	}
	return &View{state: &c}
}

// Index is the log index of the last command in the view.
func (v *View) Index() uint64 { return v.state.index }

// Chain is the hash chain at Index.
func (v *View) Chain() Hash { return v.state.chain }

// Read calls f with the frozen state. f must not apply commands to it.
func (v *View) Read(f func(*State)) { f(v.state) }
