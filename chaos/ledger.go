package chaos

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// Invariants that a mesh may break.
var (
	// ErrLost: a version that a client saw committed is not in the history any more.
	ErrLost = errors.New("a committed version was lost")
	// ErrDiverged: two replicas hold different histories.
	ErrDiverged = errors.New("replicas diverged")
	// ErrFencedWrite: a commit of an epoch that was over got in.
	ErrFencedWrite = errors.New("a fenced learner's write was accepted")
)

// Ledger collects what every replica ever answered about one job, and checks
// that all of it belongs to one history. It is safe for concurrent use.
type Ledger struct {
	mu       sync.Mutex
	chains   map[uint64]sighting         // by log index
	versions map[wire.Position]committed // by version
	epochs   map[wire.Position]uint64    // greatest epoch that was seen in force at a version
	newest   wire.Position
	broken   []error
}

type sighting struct {
	chain []byte
	node  string
}

type committed struct {
	hash  []byte
	epoch uint64 // that it was committed under
	node  string
	seen  time.Time // for the first time
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{chains: map[uint64]sighting{}, versions: map[wire.Position]committed{}, epochs: map[wire.Position]uint64{}}
}

// See notes what a replica answered.
func (l *Ledger) See(node string, s *wire.StatusReply, job string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.chains[s.Applied]; !ok {
		l.chains[s.Applied] = sighting{s.Chain, node}
	} else if !bytes.Equal(old.chain, s.Chain) {
		l.broken = append(l.broken, fmt.Errorf("%w: hash chains at index %d are %x on %s and %x on %s", ErrDiverged, s.Applied, old.chain, old.node, s.Chain, node))
	}
	for _, j := range s.Jobs {
		if j.ID != job || j.CommitEpoch == 0 { // nothing is committed yet
			continue
		}
		at := wire.Position{Generation: j.Generation, Version: j.Version}
		if old, ok := l.versions[at]; !ok {
			l.versions[at] = committed{j.StateHash, j.CommitEpoch, node, time.Now()}
		} else if !bytes.Equal(old.hash, j.StateHash) || old.epoch != j.CommitEpoch {
			l.broken = append(l.broken, fmt.Errorf("%w: version %d was %x of epoch %d on %s and is %x of epoch %d on %s", ErrLost,
				at.Version, old.hash, old.epoch, old.node, j.StateHash, j.CommitEpoch, node))
		}
		l.epochs[at] = max(l.epochs[at], j.Epoch)
		if l.newest.Before(at) {
			l.newest = at
		}
	}
}

// Seen returns when a version was first seen; false if it was not.
func (l *Ledger) Seen(at wire.Position) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.versions[at]
	return c.seen, ok
}

// Newest is the newest version that any replica showed.
func (l *Ledger) Newest() wire.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}

// Check returns every break of an invariant so far. now is the job as a
// linearizable read shows it at last.
func (l *Ledger) Check(now wire.JobInfo) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.broken)
	at := wire.Position{Generation: now.Generation, Version: now.Version}
	if at.Before(l.newest) {
		out = append(out, fmt.Errorf("%w: version %d was seen, %d is the present one", ErrLost, l.newest.Version, at.Version))
	}
	if seen, ok := l.versions[at]; ok && !bytes.Equal(seen.hash, now.StateHash) {
		out = append(out, fmt.Errorf("%w: version %d was %x on %s and is %x", ErrLost, at.Version, seen.hash, seen.node, now.StateHash))
	}
	// An epoch that was in force at a version fences all before it: whatever was
	// committed later is of that epoch or a newer one.
	var inForce uint64
	for _, at := range slices.SortedFunc(maps.Keys(l.versions), byPosition) {
		if e := l.versions[at].epoch; e < inForce {
			out = append(out, fmt.Errorf("%w: version %d is of epoch %d, epoch %d was in force before it", ErrFencedWrite, at.Version, e, inForce))
		}
		inForce = max(inForce, l.epochs[at])
	}
	return errors.Join(out...)
}

func byPosition(a, b wire.Position) int {
	return cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Version, b.Version))
}
