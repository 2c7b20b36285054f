package paramserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/lease"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// uplink is how the commits of this node's learners reach the leader, wherever
// that is: one queue in order, applied here while this node leads, and sent over
// the node's stream otherwise. It makes every answer definite. What was not
// answered when a leader was lost, or a stream, is unknown; then the very same
// bytes go out again, in order, and the state machine, which remembers the hashes
// of recent commits, says what became of them.
//
// It is the Log of every learner of the node, and carries its signs of life.
type uplink struct {
	replica *replica.Replica
	peers   *Peers // nil: there is nobody else
	node    uplinkNode
	logger  *slog.Logger

	mu       sync.Mutex
	queue    []*outgoing // not answered, in order
	released []*wire.Released
	leaving  bool
	last     uint64 // ID of the newest command
	wake     chan struct{}
}

// uplinkNode is what the uplink tells the leader of, and whom it tells what the
// leader says.
type uplinkNode interface {
	hello() *wire.LearnerHello
	permitted(wire.Lease)
	asked(wire.Lease) // to release a lease
}

// outgoing is one command on its way.
type outgoing struct {
	id     uint64
	data   []byte
	answer chan Answer
	forget func() bool     // ends the watch of its context
	future *replica.Future // of the last proposal here; nil: not proposed
}

func newUplink(r *replica.Replica, peers *Peers, node uplinkNode, logger *slog.Logger) *uplink {
	return &uplink{replica: r, peers: peers, node: node, logger: logger, wake: make(chan struct{}, 1)}
}

// Commit implements Log. When ctx ends first the answer is ErrUnknown, and the
// command is not sent again.
func (u *uplink) Commit(ctx context.Context, c *fsm.Commit) (<-chan Answer, error) {
	return u.submit(ctx, c)
}

// apply is Commit for any command of a learner, with its answer.
func (u *uplink) apply(ctx context.Context, cmd any) (fsm.Result, error) {
	answer, err := u.submit(ctx, cmd)
	if err != nil {
		return fsm.Result{}, err
	}
	a := <-answer // there is one, at the latest when ctx ends
	return a.Result, a.Err
}

// submit queues a command.
func (u *uplink) submit(ctx context.Context, cmd any) (<-chan Answer, error) {
	data, err := fsm.Encode(cmd)
	if err != nil {
		return nil, err
	}
	o := &outgoing{data: data, answer: make(chan Answer, 1)}
	u.mu.Lock()
	u.last++
	o.id = u.last
	o.forget = context.AfterFunc(ctx, func() {
		u.settle(o.id, Answer{Err: fmt.Errorf("%w: %w", replica.ErrUnknown, context.Cause(ctx))})
	})
	u.queue = append(u.queue, o)
	u.mu.Unlock()
	u.poke()
	return o.answer, nil
}

// release tells the leader that a learner has ended.
func (u *uplink) release(r *wire.Released) {
	u.mu.Lock()
	u.released = append(u.released, r)
	u.mu.Unlock()
	u.poke()
}

// leave tells the leader that the node is about to end.
func (u *uplink) leave() {
	u.mu.Lock()
	u.leaving = true
	u.mu.Unlock()
	u.poke()
}

func (u *uplink) poke() {
	select {
	case u.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// settle answers a command, once.
func (u *uplink) settle(id uint64, a Answer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, o := range u.queue {
		if o.id == id {
			u.queue = append(u.queue[:i:i], u.queue[i+1:]...)
			o.forget()
			o.answer <- a
			return
		}
	}
}

// waiting returns the commands that are not answered, in order.
func (u *uplink) waiting() []*outgoing {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*outgoing(nil), u.queue...)
}

// seekEvery is the pause between two looks for the leader, or for the end of
// this node's leadership.
const seekEvery = 20 * time.Millisecond

// run carries commands until ctx ends; what is left then is unknown.
func (u *uplink) run(ctx context.Context) {
	for ctx.Err() == nil {
		if u.replica.IsLeader() {
			u.here(ctx)
		} else if id, _ := u.replica.Leader(); id != "" && u.peers != nil {
			if err := u.there(ctx, id); err != nil && ctx.Err() == nil {
				u.logger.Debug("stream to the leader ended", "leader", id, "error", err)
			}
		}
		pause(ctx, seekEvery)
	}
	for _, o := range u.waiting() {
		u.settle(o.id, Answer{Err: fmt.Errorf("%w: %w", replica.ErrUnknown, ctx.Err())})
	}
}

// here proposes while this node leads. Commands that were proposed and not
// answered when that ends are proposed again, all from the first such one on: a
// later one cannot count without those before it.
func (u *uplink) here(ctx context.Context) {
	tick := time.NewTicker(seekEvery)
	defer tick.Stop()
	for {
		queue := u.waiting()
		for _, o := range queue {
			if o.future == nil {
				o.future = u.replica.ApplyEncodedAsync(o.data)
			}
		}
		var first <-chan struct{}
		if len(queue) > 0 {
			first = queue[0].future.Done()
		}
		select {
		case <-first:
			res, err := queue[0].future.Wait(ctx)
			if err == nil {
				u.settle(queue[0].id, Answer{Result: res})
				continue
			}
			if ctx.Err() == nil {
				u.logger.Warn("commit outcome unknown, the same bytes go out again", "error", err)
			}
			for _, o := range queue {
				select {
				case <-o.future.Done(): // it fails too, or counts and will say so again
				case <-ctx.Done():
					return
				}
				o.future = nil
				if errors.Is(err, replica.ErrClosed) || errors.Is(err, fsm.ErrTooLarge) {
					u.settle(o.id, Answer{Err: err})
				}
			}
			return
		case <-u.wake:
		case <-tick.C:
			if len(queue) == 0 && !u.replica.IsLeader() {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// there sends to the leader, until the stream breaks, either side was silent for
// lease.Expiry, or this node leads itself.
func (u *uplink) there(ctx context.Context, leader string) error {
	client, err := u.peers.client(leader)
	if err != nil {
		return err
	}
	var listening sync.WaitGroup
	defer listening.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Learn(ctx)
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.released = nil // of leases that the greeting does not name
	u.mu.Unlock()
	if err := stream.Send(&wire.LearnerUp{Hello: u.node.hello()}); err != nil {
		return err
	}
	// Not hearing the leader ends the stream, and with it the signs of life: a link
	// that is cut in one direction must not keep a lease that nobody can use.
	silence := time.AfterFunc(lease.Expiry, cancel)
	defer silence.Stop()
	received := make(chan error, 1)
	listening.Go(func() { received <- u.listen(stream, silence) })
	beat := time.NewTicker(lease.BeatEvery)
	defer beat.Stop()
	sent := uint64(0) // ID of the last command that went out on this stream
	for left := false; ; {
		if err := u.send(stream, &sent, &left); err != nil {
			return err
		}
		select {
		case err := <-received:
			return err
		case <-u.wake:
		case <-beat.C:
			if u.replica.IsLeader() {
				return nil
			}
			if err := stream.Send(&wire.LearnerUp{}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send writes what waits and has not gone out on this stream.
func (u *uplink) send(stream grpc.BidiStreamingClient[wire.LearnerUp, wire.LearnerDown], sent *uint64, left *bool) error {
	u.mu.Lock()
	released, leaving := u.released, u.leaving
	u.released = nil
	u.mu.Unlock()
	if leaving && !*left {
		*left = true
		if err := stream.Send(&wire.LearnerUp{Leaving: true}); err != nil {
			return err
		}
	}
	for _, o := range u.waiting() {
		if o.id <= *sent {
			continue
		}
		*sent = o.id
		for data := o.data; ; {
			n := min(len(data), wire.MaxCommitPart)
			part := &wire.CommandPart{ID: o.id, Data: data[:n], Last: n == len(data)}
			if err := stream.Send(&wire.LearnerUp{Part: part}); err != nil {
				return err
			}
			if part.Last {
				break
			}
			data = data[n:]
		}
	}
	for _, r := range released { // after the last commits of their learners
		if err := stream.Send(&wire.LearnerUp{Released: r}); err != nil {
			return err
		}
	}
	return nil
}

// listen hears the leader.
func (u *uplink) listen(stream grpc.BidiStreamingClient[wire.LearnerUp, wire.LearnerDown], silence *time.Timer) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		silence.Reset(lease.Expiry)
		switch {
		case m.Permit != nil:
			u.node.permitted(*m.Permit)
		case m.Release != nil:
			u.node.asked(*m.Release)
		case m.Answer != nil:
			u.settle(m.Answer.ID, Answer{Result: fsm.Result{Outcome: fsm.Outcome(m.Answer.Outcome), Reason: m.Answer.Reason}})
		}
	}
}

var _ Log = (*uplink)(nil)
