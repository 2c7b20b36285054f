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
	parts   parts

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

// take adds a part of a command. Memory is bounded by what a command may have,
// twice: one arrives while another waits.
func (x *relay) take(p *wire.CommandPart) error {
	x.mu.Lock()
	x.held += len(p.Data)
	held := x.held
	x.mu.Unlock()
	if held > 2*fsm.MaxCommand {
		return fmt.Errorf("%w: commands of %d bytes on their way; the cap is %d", cluster.ErrInvalid, held, 2*fsm.MaxCommand)
	}
	data, err := x.parts.add(p)
	if err != nil || data == nil {
		return err
	}
	select {
	case x.whole <- command{p.ID, data}:
		return nil
	default:
		return fmt.Errorf("%w: more than %d commands on their way", cluster.ErrInvalid, maxRelayed)
	}
}

// parts puts the parts of a node's commands together.
type parts struct {
	id   uint64 // of the command that is arriving
	data []byte // of it so far; grows with what arrives, never with what is promised
}

// add takes the next part, and returns the command when it was the last.
// Commands other than those of a learner are refused.
func (a *parts) add(p *wire.CommandPart) ([]byte, error) {
	switch {
	case len(p.Data) > wire.MaxCommitPart:
		return nil, fmt.Errorf("%w: a part of %d bytes; the cap is %d", cluster.ErrInvalid, len(p.Data), wire.MaxCommitPart)
	case len(a.data) > 0 && p.ID != a.id:
		return nil, fmt.Errorf("%w: a part of command %d within command %d", cluster.ErrInvalid, p.ID, a.id)
	case len(a.data)+len(p.Data) > fsm.MaxCommand:
		return nil, fmt.Errorf("%w: a command of over %d bytes", cluster.ErrInvalid, fsm.MaxCommand)
	}
	a.id = p.ID
	a.data = append(a.data, p.Data...)
	if !fsm.Carries(a.data, fsm.Commit{}) && !fsm.Carries(a.data, fsm.Compact{}) {
		return nil, fmt.Errorf("%w: a learner sends commits and compactions only", cluster.ErrInvalid)
	}
	if !p.Last {
		return nil, nil
	}
	data := a.data
	a.data = nil
	return data, nil
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
