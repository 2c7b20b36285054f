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

	mu       sync.Mutex
	queue    *Admission
	refusals refusalLog
	changed  chan struct{} // closed and renewed at every change
	closed   bool
	taken    []wire.Trajectory
}

// NewIntake wraps a queue; fresh is the number of trajectories that the next
// update wants, such as Updater.Fresh. What is refused goes to the logger, at a pace that the clock bounds.
func NewIntake(a *Admission, fresh func() int, c clock.Clock, logger *slog.Logger) *Intake {
	return &Intake{fresh: fresh, clock: c, queue: a, refusals: refusalLog{clock: c, logger: logger}, changed: make(chan struct{})}
}

func (in *Intake) notify() {
	close(in.changed)
	in.changed = make(chan struct{})
}

// Next implements Feed.
func (in *Intake) Next(ctx context.Context, version uint64, _ []float32) ([]wire.Trajectory, error) {
	for {
		in.mu.Lock()
		before := in.queue.Waiting()
		in.taken = in.queue.Take(in.fresh(), version, in.clock.Now(), in.taken)
		got, changed := in.taken, in.changed
		if in.queue.Waiting() != before {
			in.notify() // senders have new credit
		}
		in.mu.Unlock()
		if len(got) > 0 {
			return got, nil
		}
		select {
		case <-changed:
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
	next = in.queue.Open(session, mark)
	in.notify() // shares have changed
	return next, nil
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
	in.notify()
	return err
}

// Credit returns a session's credit and a channel that is closed when it may
// have changed; open is false once the lease has ended.
func (in *Intake) Credit(session string) (credit uint64, changed <-chan struct{}, open bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.queue.Credit(session), in.changed, !in.closed
}

// Leave ends one stream of a session, which gives up its share of the queue.
func (in *Intake) Leave(session string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.queue.Close(session)
	in.notify()
}

// Close ends the lease: Offer and Open answer ErrFenced from now on.
func (in *Intake) Close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.refusals.flush()
	in.notify()
}
