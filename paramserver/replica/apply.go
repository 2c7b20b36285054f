package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// enqueueTimeout bounds the wait for raft's main loop to take a command up.
const enqueueTimeout = 5 * time.Second

// Future is the answer to a proposed command.
type Future struct {
	done  chan struct{}
	res   fsm.Result
	index uint64
	err   error
}

func resolved(err error) *Future {
	f := &Future{done: make(chan struct{}), err: err}
	close(f.done)
	return f
}

// Done is closed when the answer is there.
func (f *Future) Done() <-chan struct{} { return f.done }

// Wait returns the answer. When ctx ends first that is ErrUnknown: the command
// is on its way and cannot be called back.
func (f *Future) Wait(ctx context.Context) (fsm.Result, error) {
	select {
	case <-f.done:
		return f.res, f.err
	case <-ctx.Done():
		return fsm.Result{}, fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}

// Index is the log index of the command; 0 before Done and after an error.
func (f *Future) Index() uint64 {
	select {
	case <-f.done:
		return f.index
	default:
		return 0
	}
}

// Apply proposes a command of package fsm and waits for its result. The errors
// are ErrNotLeader and ErrClosed (definitely not applied), ErrUnknown, and
// those of fsm.Encode. A result such as fsm.Fenced is an answer, not an error.
func (r *Replica) Apply(ctx context.Context, cmd any) (fsm.Result, error) {
	if err := ctx.Err(); err != nil {
		return fsm.Result{}, err
	}
	data, err := fsm.Encode(cmd)
	if err != nil {
		return fsm.Result{}, err
	}
	return r.ApplyEncoded(ctx, data)
}

// ApplyAsync proposes a command and returns once raft has taken it up: what one
// goroutine proposes one after the other enters the log in that order.
func (r *Replica) ApplyAsync(cmd any) *Future {
	data, err := fsm.Encode(cmd)
	if err != nil {
		return resolved(err)
	}
	return r.ApplyEncodedAsync(data)
}

// ApplyEncoded is Apply for a command that was encoded elsewhere, whole or as
// one of its chunks. Which kinds may come from there is for the caller to check.
func (r *Replica) ApplyEncoded(ctx context.Context, encoded []byte) (fsm.Result, error) {
	if err := ctx.Err(); err != nil {
		return fsm.Result{}, err
	}
	for {
		f := r.ApplyEncodedAsync(encoded)
		res, err := f.Wait(ctx)
		if err == nil || !r.again(ctx, f) {
			return res, err
		}
	}
}

func (r *Replica) closedErr() error {
	select {
	case <-r.stop:
		return ErrClosed
	case <-r.failed:
		return fmt.Errorf("%w: %w", ErrClosed, r.failure)
	default:
		return nil
	}
}
