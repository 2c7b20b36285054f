package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/hashicorp/raft"
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
	return r.ApplyAsync(cmd).Wait(ctx)
}

// ApplyAsync proposes a command and returns once raft has taken it up: what one
// goroutine proposes one after the other enters the log in that order.
func (r *Replica) ApplyAsync(cmd any) *Future {
	data, err := fsm.Encode(cmd)
	if err != nil {
		return resolved(err)
	}
	if err := r.closedErr(); err != nil {
		return resolved(err)
	}
	proposed := r.raft.Apply(data, enqueueTimeout)
	f := &Future{done: make(chan struct{})}
	if !r.goFunc(func() {
		defer close(f.done)
		f.settle(proposed)
	}) {
		return resolved(fmt.Errorf("%w: %w", ErrUnknown, ErrClosed))
	}
	return f
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

func (f *Future) settle(proposed raft.ApplyFuture) {
	if err := proposed.Error(); err != nil {
		f.err = outcome(err)
		return
	}
	switch res := proposed.Response().(type) {
	case fsm.Result:
		f.res, f.index = res, proposed.Index()
	case error:
		f.err = fmt.Errorf("%w: %w", ErrUnknown, res)
	}
}

// outcome sorts raft's errors by what they say about the command. Only these
// three come from before it entered the log.
func outcome(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// Linearize returns once the applied state contains every command that was
// answered, anywhere in the cluster, before the call: a Read after it is
// linearizable. It fails with ErrNotLeader, ErrClosed, or ctx's error.
func (r *Replica) Linearize(ctx context.Context) error {
	if err := r.closedErr(); err != nil {
		return err
	}
	if !r.IsLeader() {
		return ErrNotLeader
	}
	term := r.raft.CurrentTerm()
	if r.barrier.Load() != term {
		return r.passBarrier(ctx, term)
	}
	index := r.raft.CommitIndex()
	if err := r.await(ctx, r.raft.VerifyLeader()); err != nil {
		return readError(err)
	}
	if r.raft.CurrentTerm() != term {
		// Leadership was lost and won again in between: index may be older
		// than what the new term's barrier would have waited for.
		return r.Linearize(ctx)
	}
	return r.waitApplied(ctx, index)
}

// passBarrier is a linearization point by itself. A new leader needs one: it
// cannot know the commit index before an entry of its own term is committed.
func (r *Replica) passBarrier(ctx context.Context, term uint64) error {
	future := r.raft.Barrier(enqueueTimeout)
	result := make(chan error, 1)
	if !r.goFunc(func() {
		err := future.Error()
		if err == nil {
			// Barriers reach no FSM: the machine learns of them here, whether or
			// not the caller still waits, so that waitApplied meets no gap.
			if at, ok := future.(raft.IndexFuture); ok {
				r.machine.note(at.Index())
			}
			if r.raft.CurrentTerm() == term {
				r.barrier.Store(term)
			}
		}
		result <- err
	}) {
		return ErrClosed
	}
	select {
	case err := <-result:
		return readError(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Replica) waitApplied(ctx context.Context, index uint64) error {
	for {
		seen, changed := r.machine.progress()
		if seen >= index {
			return nil
		}
		select {
		case <-changed:
		case <-r.done:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// readError is outcome for reads, which have nothing that could be unknown.
func readError(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrClosed):
		return err
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	}
	return fmt.Errorf("%w: %w", ErrNotLeader, err)
}
