package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/hashicorp/raft"
)

// Linearize returns once the applied state contains every command that was
// answered, anywhere in the cluster, before the call: a Read after it is
// linearizable. Any replica can do so; one that does not lead asks the leader
// through Config.ReadIndex. It fails with ErrNotLeader (no leader, or no way to
// ask it), ErrClosed, ctx's error, or that of Config.ReadIndex.
func (r *Replica) Linearize(ctx context.Context) error {
	if err := r.closedErr(); err != nil {
		return err
	}
	index, err := r.ReadIndex(ctx)
	if errors.Is(err, ErrNotLeader) && r.cfg.ReadIndex != nil {
		index, err = r.cfg.ReadIndex(ctx)
	}
	if err != nil {
		return err
	}
	return r.waitState(ctx, index)
}

// ReadIndex is the leader's part of a linearizable read: the log index of a
// command that is committed and not older than any that was answered before the
// call. A replica whose State.Index has reached it may answer. It fails with
// ErrNotLeader, ErrClosed, or ctx's error.
//
// The order matters. The commit index is taken before the leadership is
// verified: taken after it, another leader might already have answered more. And
// a new leader passes a Barrier first, as it cannot know the commit index before
// an entry of its own term is committed.
func (r *Replica) ReadIndex(ctx context.Context) (uint64, error) {
	for {
		if err := r.closedErr(); err != nil {
			return 0, err
		}
		if !r.IsLeader() {
			return 0, ErrNotLeader
		}
		term := r.raft.CurrentTerm()
		if r.barrier.Load() != term {
			if err := r.passBarrier(ctx, term); err != nil {
				return 0, err
			}
		}
		commit := r.raft.CommitIndex()
		if err := r.confirm(ctx, term); err != nil {
			return 0, err
		}
		if r.raft.CurrentTerm() != term || r.barrier.Load() != term {
			// Leadership was lost and won again in between: commit may be older
			// than what the new term's barrier would have waited for.
			continue
		}
		if err := r.waitSeen(ctx, commit); err != nil {
			return 0, err
		}
		// Not commit itself: barriers and the entry that opens a term pass no
		// state machine, so a follower could wait for them for ever.
		var index uint64
		r.Read(func(s *fsm.State) { index = s.Index() })
		return index, nil
	}
}

// passBarrier waits until everything that was committed in earlier terms is applied.
func (r *Replica) passBarrier(ctx context.Context, term uint64) error {
	future := r.raft.Barrier(enqueueTimeout)
	result := make(chan error, 1)
	if !r.goFunc(func() {
		err := future.Error()
		if err == nil {
			// Barriers reach no FSM: the machine learns of them here, whether or
			// not the caller still waits, so that waitSeen meets no gap.
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
	case <-r.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitSeen waits until the log has passed through index, on the leader.
func (r *Replica) waitSeen(ctx context.Context, index uint64) error {
	return r.waitUntil(ctx, func() (bool, <-chan struct{}) {
		seen, changed := r.machine.progress()
		return seen >= index, changed
	})
}

// waitState waits until the command at index is applied.
func (r *Replica) waitState(ctx context.Context, index uint64) error {
	return r.waitUntil(ctx, func() (bool, <-chan struct{}) {
		at, changed := r.machine.applied()
		return at >= index, changed
	})
}

func (r *Replica) waitUntil(ctx context.Context, reached func() (bool, <-chan struct{})) error {
	for {
		ok, changed := reached()
		if ok {
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
