package paramserver

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// Intake is the live side of Admission: worker streams offer, the learner takes.
// It is the Feed of a learner in the mesh. One Intake serves one lease; when
// the lease ends it is closed and streams end with it.
type Intake struct {
	fresh func() int // trajectories that the next update wants
	clock clock.Clock
	spent workersSpent

	mu       sync.Mutex
	queue    *Admission
	refusals refusalLog
	arrived  chan struct{}            // closed and renewed when there may be a batch
	credits  map[string]chan struct{} // by session: closed and renewed when there may be credit
	closed   bool
	taken    []wire.Trajectory
}

// NewIntake wraps a queue; fresh is the number of trajectories that the next
// update wants, such as Updater.Fresh. What is refused goes to the logger, at a pace that the clock bounds.
func NewIntake(a *Admission, fresh func() int, c clock.Clock, logger *slog.Logger) *Intake {
	return &Intake{fresh: fresh, clock: c, queue: a, refusals: refusalLog{clock: c, logger: logger}, arrived: make(chan struct{}), credits: map[string]chan struct{}{}}
}

// Each is woken by what concerns it: with many sessions, one channel for all would
// wake every stream for every batch of every other.

// offered wakes the learner, and the stream that may want more credit.
func (in *Intake) offered(session string) {
	close(in.arrived)
	in.arrived = make(chan struct{})
	in.credited(session)
}

// credited wakes a session's streams.
func (in *Intake) credited(session string) {
	if c := in.credits[session]; c != nil {
		close(c)
		delete(in.credits, session)
	}
}

// settled wakes the streams of the sessions whose trajectories were taken out of the
// queue, n of them.
func (in *Intake) settled(taken []wire.Trajectory, n int) {
	if len(taken) != n { // some had another disposition
		in.all()
		return
	}
	last := ""
	for i := range taken {
		if s := taken[i].Session; s != last {
			in.credited(s)
			last = s
		}
	}
}

// all wakes every stream.
func (in *Intake) all() {
	for session := range in.credits {
		in.credited(session)
	}
}

// Next implements Feed.
func (in *Intake) Next(ctx context.Context, version uint64, _ []float32) ([]wire.Trajectory, error) {
	for {
		in.mu.Lock()
		before := in.queue.Waiting()
		in.taken = in.queue.Take(in.fresh(), version, in.clock.Now(), in.taken)
		got, arrived := in.taken, in.arrived
		if n := before - in.queue.Waiting(); n > 0 {
			in.settled(got, n)
		}
		in.mu.Unlock()
		if len(got) > 0 {
			return got, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Refuse implements Feed.
func (in *Intake) Refuse(t *wire.Trajectory, why error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.refusals.add(t, why)
	in.queue.Refuse(t)
}

// Marks implements Feed.
func (in *Intake) Marks() []fsm.Mark {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.queue.Marks()
}

// Committed notes when a version was committed; see Admission.Committed.
func (in *Intake) Committed(version uint64, stamp int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.queue.Committed(version, stamp)
}

// Open begins or continues a session's stream.
func (in *Intake) Open(session string, mark uint64) (next uint64, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return 0, ErrFenced
	}
	return in.queue.Open(session, mark), nil // shares are smaller, and credit never goes back
}

// Offer hands over what a stream received.
func (in *Intake) Offer(session string, batch []wire.Trajectory) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return ErrFenced
	}
	if n := len(batch); n > 0 && batch[n-1].Seq > in.queue.Granted(session) {
		return fmt.Errorf("session %s: trajectory %d, credit up to %d: %w", session, batch[n-1].Seq, in.queue.Granted(session), ErrCredit)
	}
	err := in.queue.Offer(session, batch)
	in.offered(session)
	return err
}

// Credit returns a session's credit and a channel that is closed when it may
// have changed; open is false once the lease has ended.
func (in *Intake) Credit(session string) (credit uint64, changed <-chan struct{}, open bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	c := in.credits[session]
	if c == nil {
		c = make(chan struct{})
		in.credits[session] = c
	}
	return in.queue.Credit(session), c, !in.closed
}

// short says whether a session that was told of so much credit is about to run out.
func (in *Intake) short(session string, told uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.queue.Short(session, told)
}

// Leave ends one stream of a session, which gives up its share of the queue.
func (in *Intake) Leave(session string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.queue.Close(session)
	in.all() // shares are larger
}

// Close ends the lease: Offer and Open answer ErrFenced from now on.
func (in *Intake) Close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.refusals.flush()
	in.all()
}
