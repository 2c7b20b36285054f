package fsm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// ErrRestore says that a snapshot cannot become the state of a new cluster.
var ErrRestore = errors.New("cannot restore")

// Restore reads a snapshot as the first state of a new cluster at stamp (Unix
// nanoseconds). Under the identity of the old cluster its workers and clients
// find the new one; the generation is what keeps the two apart. That of the
// cluster and of every job is one above the snapshot's, so that nothing of the
// old cluster that is still under way is ever taken for the new one's: leases
// are void, sessions expired, transfers and remembered Commits forgotten. The
// index is one above the snapshot's; the term begins anew. Jobs() of the
// result says what was restored: per job the generation, the version and the
// trajectories counted. The errors are ErrRestore and those of DecodeSnapshot.
func Restore(r io.Reader, clusterID string, stamp int64) (*State, error) {
	if Supported() < 2 {
		return nil, fmt.Errorf("%w: it needs feature level 2; this build has %d", ErrRestore, Supported())
	}
	if bad := checkName("cluster id", clusterID); bad != nil {
		return nil, fmt.Errorf("%w: %s", ErrRestore, bad.Reason)
	}
	s, err := DecodeSnapshot(r)
	if err != nil {
		return nil, err
	}
	if s.cluster == "" {
		return nil, fmt.Errorf("%w: the snapshot is older than the identity of its cluster", ErrRestore)
	}
	from := fmt.Sprintf("cluster %s at index %d", s.cluster, s.index)
	s.generation++
	s.cluster, s.created = clusterID, stamp
	s.level = max(s.level, 2) // every server of the new cluster has it
	s.index++
	s.term, s.pending, s.checkpoints = 0, nil, nil
	for _, e := range s.jobs {
		e.restored(s.generation, stamp)
	}
	s.record(Event{Stamp: stamp, Kind: EventRestored, Detail: fmt.Sprintf("generation %d from %s", s.generation, from)})
	s.link(sha256.Sum256([]byte("restore "+clusterID)), nil)
	return s, nil
}

func (e *entry) restored(generation uint64, stamp int64) {
	e.Generation = generation
	e.Learner, e.LearnerAddr = "", ""
	e.recent = nil
	for id := range e.open {
		se := e.sessions[id]
		se.Expired, se.Ended = true, stamp
		e.sessions[id] = se
	}
	clear(e.open)
	e.Job.Sessions = 0
}
