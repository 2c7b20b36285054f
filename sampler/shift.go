package sampler

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// shift is one slot's work for one job under one session: two loops around an
// outbox. sample fills it, with the newest parameters of the node's subscription;
// deliver empties it.
type shift struct {
	w       *Worker
	job     string
	session string
	logger  *slog.Logger
	cancel  context.CancelFunc
	done    chan struct{}
	told    wire.Spent // of what the slot spent, to learners

	mu      sync.Mutex
	changed chan struct{} // closed and renewed whenever anything below changes
	learner string        // address of the present learner
	outbox  *Outbox
	final   bool // the job is over
}

func (w *Worker) startShift(ctx context.Context, a *wire.Assignment) *shift {
	ctx, cancel := context.WithCancel(ctx)
	s := &shift{
		w: w, job: a.Job, session: uuid.NewString(), cancel: cancel,
		told: w.Spent(), done: make(chan struct{}), changed: make(chan struct{}), learner: a.LearnerAddr,
	}
	s.logger = w.Logger.With("job", s.job, "slot", w.Slot, "session", s.session)
	go func() { // end waits for it
		defer close(s.done)
		if err := s.run(ctx, a.Spec); err != nil && ctx.Err() == nil {
			s.logger.Warn("shift ended", "error", err)
		}
	}()
	return s
}

// ended is closed when the shift has ended by itself; nil blocks for ever.
func (s *shift) ended() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.done
}

// end stops the shift and waits for it.
func (s *shift) end() {
	s.cancel()
	<-s.done
}

// moved tells the shift where the learner is now.
func (s *shift) moved(addr string) { s.change(func() { s.learner = addr }) }

// change applies f under the lock and wakes every loop.
func (s *shift) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	if s.outbox != nil {
		s.w.Kept.Store(int64(s.outbox.Kept()))
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// await blocks until ready answers true; ready runs under the lock. It is asked
// again when something changes, and after the time that it says, if it does.
func (s *shift) await(ctx context.Context, ready func() (ok bool, again time.Duration)) error {
	for {
		s.mu.Lock()
		ok, again := ready()
		changed := s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		var later <-chan time.Time
		if again > 0 {
			later = time.After(again)
		}
		select {
		case <-changed:
		case <-later:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// when asks only when something changes.
func when(ready func() bool) func() (bool, time.Duration) {
	return func() (bool, time.Duration) { return ready(), 0 }
}

func (s *shift) run(ctx context.Context, raw []byte) error {
	spec, err := job.FromJSON(raw)
	if err != nil {
		return err
	}
	roller, err := NewRoller(spec, sessionSeed(s.session))
	if err != nil {
		return err
	}
	roller.Within(ctx)
	roller.Refuse(tellFaults(s.logger))
	published, err := s.w.Parameters.Subscribe(s.job)
	if err != nil {
		return err
	}
	defer published.Close()
	reply, err := cluster.CallIdempotent(ctx, s.w.Leader, (*cluster.Client).OpenSession, &wire.OpenSessionRequest{
		ClusterID: s.w.ClusterID, Job: s.job, Worker: s.w.Node, Slot: s.w.Slot, Token: s.session,
	})
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	s.outbox = NewOutbox(reply.Mark)
	s.logger.Info("session opened", "node", s.w.Node)
	s.note(journal.Entry{Kind: journal.Opened, Last: reply.Mark})

	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	loop := func(f func(context.Context, *cluster.Client) error) {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := s.connected(ctx, f)
				switch {
				case err == nil: // the job is over
					return
				case errors.Is(err, cluster.ErrSession), errors.Is(err, cluster.ErrNotFound):
					cancel(err)
					return
				}
				s.logger.Debug("connection interrupted", "error", err)
				if pause(ctx, retryAfter) != nil {
					return
				}
			}
		})
	}
	loop(s.deliver)
	wg.Go(func() {
		select {
		case <-published.Ended():
			if err := published.Err(); err != nil {
				cancel(err)
			}
			s.change(func() { s.final = true })
		case <-ctx.Done():
		}
	})
	if err := s.sample(ctx, roller, published); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return nil
}

// note writes to the worker's journal.
func (s *shift) note(e journal.Entry) {
	if s.w.Journal != nil {
		e.Job, e.Session, e.Node, e.Slot = s.job, s.session, s.w.Node, s.w.Slot
		s.w.Journal.Write(e)
	}
}

// sessionSeed names the random stream of a session.
func sessionSeed(session string) uint64 {
	h := sha256.Sum256([]byte(session))
	return binary.LittleEndian.Uint64(h[:])
}

// connected runs f with a client of the present learner, until the learner moves.
func (s *shift) connected(ctx context.Context, f func(context.Context, *cluster.Client) error) error {
	s.mu.Lock()
	addr := s.learner
	s.mu.Unlock()
	client, err := s.w.Leader.Client(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if s.await(ctx, when(func() bool { return s.learner != addr })) == nil {
			cancel()
		}
	})
	err = f(ctx, client)
	cancel()
	wg.Wait()
	return err
}

// deliver holds one trajectory stream: what has credit goes up, marks and
// credits come down.
func (s *shift) deliver(ctx context.Context, c *cluster.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Deliver(ctx)
	if err != nil {
		return err
	}
	s.change(s.outbox.Disconnected)
	defer s.change(s.outbox.Disconnected) // the sampler hears of it at once
	if err := stream.Send(&wire.Uplink{Hello: &wire.Hello{ClusterID: s.w.ClusterID, Job: s.job, Session: s.session}}); err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() { // awaited below
		received <- s.receive(stream)
		cancel() // the sender would wait for credit that cannot come
	}()
	err = s.send(ctx, stream)
	cancel()
	if broken := <-received; err != nil {
		return broken
	}
	return nil
}

// send puts on the wire what has credit; nil once the job is over.
func (s *shift) send(ctx context.Context, stream deliverStream) error {
	for {
		var frame []byte
		var final bool
		err := s.await(ctx, when(func() (ok bool) {
			final = s.final
			frame, ok = s.outbox.Send()
			return ok || final
		}))
		if err != nil || final {
			return err
		}
		s.change(func() {}) // one batch fewer waits: the sampler may go on
		if err := stream.Send(&wire.Uplink{Batch: frame, Spent: s.tell()}); err != nil {
			return err
		}
	}
}

// tell is what the slot spent since it last told; only send calls it.
func (s *shift) tell() *wire.Spent {
	now := s.w.Spent()
	since := now.Sub(s.told)
	s.told = now
	return &since
}

type deliverStream interface {
	Send(*wire.Uplink) error
	Recv() (*wire.Downlink, error)
}

func (s *shift) receive(stream deliverStream) error {
	for {
		d, err := stream.Recv()
		if err != nil {
			return err
		}
		var before, after uint64
		s.change(func() {
			before = s.outbox.Mark()
			if d.Resume > 0 {
				err = s.outbox.Resume(d.Resume)
			}
			s.outbox.Acknowledge(d.Mark, d.Credit)
			after = s.outbox.Mark()
		})
		if after > before {
			s.note(journal.Entry{Kind: journal.Marked, Last: after})
		}
		if err != nil {
			return err
		}
	}
}
