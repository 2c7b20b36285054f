package paramserver

import (
	"context"
	"fmt"
	"sync"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// relay proposes the commands that another node's learners send, in order, and
// answers them in order. An answer that is not definite ends the stream: the
// node sends the same bytes again, here or to the next leader.
type relay struct {
	replica *replica.Replica
	stream  *learnerStream
	part    []byte // of the command that is arriving
	id      uint64 // of that command

	cancel  context.CancelFunc
	loops   sync.WaitGroup
	whole   chan command
	flights chan flight

	mu   sync.Mutex
	held int // bytes that are here and not proposed
}

type command struct {
	id   uint64
	data []byte
}

type flight struct {
	id     uint64
	future *replica.Future
}

// maxRelayed bounds the commands of one node that are on their way; each of its
// learners has two at most, and a node that trains more jobs than that waits.
const maxRelayed = 64

func newRelay(r *replica.Replica, l *learnerStream) *relay {
	ctx, cancel := context.WithCancel(context.Background())
	x := &relay{replica: r, stream: l, cancel: cancel, whole: make(chan command, maxRelayed), flights: make(chan flight, maxRelayed)}
	x.loops.Go(func() { x.propose(ctx) })
	x.loops.Go(func() { x.answer(ctx) })
	return x
}

// stop ends the relay and waits. What was proposed stays proposed.
func (x *relay) stop() {
	x.cancel()
	x.loops.Wait()
}

// take adds a part. Commands other than those of a learner are refused, and
// memory is bounded by what a command may have, twice: one arrives while
// another waits.
func (x *relay) take(p *wire.CommandPart) error {
	if len(x.part) > 0 && p.ID != x.id {
		return fmt.Errorf("%w: a part of command %d within command %d", cluster.ErrInvalid, p.ID, x.id)
	}
	x.id = p.ID
	x.mu.Lock()
	x.held += len(p.Data)
	held := x.held
	x.mu.Unlock()
	if len(x.part)+len(p.Data) > fsm.MaxCommand || held > 2*fsm.MaxCommand {
		return fmt.Errorf("%w: a command of over %d bytes", cluster.ErrInvalid, fsm.MaxCommand)
	}
	x.part = append(x.part, p.Data...)
	if !fsm.Carries(x.part, fsm.Commit{}) && !fsm.Carries(x.part, fsm.Compact{}) {
		return fmt.Errorf("%w: a learner sends commits and compactions only", cluster.ErrInvalid)
	}
	if !p.Last {
		return nil
	}
	c := command{x.id, x.part}
	x.part = nil
	select {
	case x.whole <- c:
		return nil
	default:
		return fmt.Errorf("%w: more than %d commands on their way", cluster.ErrInvalid, maxRelayed)
	}
}

func (x *relay) propose(ctx context.Context) {
	for {
		select {
		case c := <-x.whole:
			f := flight{c.id, x.replica.ApplyEncodedAsync(c.data)}
			x.mu.Lock()
			x.held -= len(c.data)
			x.mu.Unlock()
			select {
			case x.flights <- f:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (x *relay) answer(ctx context.Context) {
	for {
		select {
		case f := <-x.flights:
			res, err := f.future.Wait(ctx)
			if err != nil {
				x.stream.cancel(fmt.Errorf("%w: %w", cluster.ErrUnavailable, err))
				return
			}
			x.stream.tell(&wire.LearnerDown{Answer: &wire.CommandAnswer{ID: f.id, Outcome: string(res.Outcome), Reason: res.Reason}})
		case <-ctx.Done():
			return
		}
	}
}
