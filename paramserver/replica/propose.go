package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"
)

// maxInFlight bounds the bytes of entries that raft has taken up and not yet
// answered: what the leader holds in memory for followers that are slow, and what
// it writes at most between two looks at the rest of its work.
const maxInFlight = 16 << 20

// maxWhole is the cap of a command in one log entry, before chunks; the log itself
// refuses entries above 64 MiB.
const maxWhole = 48 << 20

// chunkSize is that of a part of a command above fsm.MaxEntry: small enough that
// maxAppend of them cross a slow link within rpcTimeout, and that others get
// their turn in between.
const chunkSize = 1 << 20

// entryOverhead is what an entry costs besides its data: the structures around it.
const entryOverhead = 1 << 10

// gate is the backpressure of proposals; it serves them in the order they came.
type gate struct{ free *semaphore.Weighted }

func newGate() gate { return gate{semaphore.NewWeighted(maxInFlight)} }

func weight(data []byte) int64 { return min(int64(len(data))+entryOverhead, maxInFlight) }

// ApplyEncodedAsync is ApplyAsync for an encoded command. One above the cap of
// a log entry travels in chunks, back to back; commands of others may come in
// between. It returns once raft has taken up the last of them.
//
// A large command that was aborted on its way is ErrUnknown like everything that
// wants the same bytes to be sent again.
func (r *Replica) ApplyEncodedAsync(encoded []byte) *Future {
	parts, err := r.split(encoded)
	if err != nil {
		return resolved(err)
	}
	var last *Future
	for i, part := range parts {
		if last != nil && last.failed() {
			// The rest would only be refused. The last part, which is the one
			// that applies the command, never entered the log.
			return resolved(fmt.Errorf("%w: part %d of %d was not accepted: %w", ErrNotLeader, i, len(parts), last.err))
		}
		last = r.propose(part)
	}
	if len(parts) > 1 {
		return r.whole(last)
	}
	return last
}

// propose hands one entry to raft, which holds it back while too much is in flight.
func (r *Replica) propose(data []byte) *Future {
	if err := r.closedErr(); err != nil {
		return resolved(err)
	}
	n := weight(data)
	if err := r.gate.free.Acquire(r.life, n); err != nil {
		return resolved(ErrClosed)
	}
	if r.store != nil {
		r.machine.ahead.note(data)
	}
	proposed := r.raft.Apply(data, enqueueTimeout)
	f := &Future{done: make(chan struct{})}
	if !r.goFunc(func() {
		defer close(f.done)
		defer r.gate.free.Release(n)
		f.settle(proposed)
	}) {
		return resolved(fmt.Errorf("%w: %w", ErrUnknown, ErrClosed))
	}
	return f
}

// whole turns the answer to the last part of a command into that to the command.
func (r *Replica) whole(last *Future) *Future {
	f := &Future{done: make(chan struct{})}
	if !r.goFunc(func() {
		defer close(f.done)
		<-last.done
		f.res, f.index, f.err = last.res, last.index, last.err
		if f.err == nil && f.res.Outcome == fsm.Aborted {
			f.err = fmt.Errorf("%w: the transfer was aborted: %s", ErrUnknown, f.res.Reason)
		}
	}) {
		return resolved(fmt.Errorf("%w: %w", ErrUnknown, ErrClosed))
	}
	return f
}

// failed says whether an answer is there and is no Result.
func (f *Future) failed() bool {
	select {
	case <-f.done:
		return f.err != nil || f.res.Outcome == fsm.Aborted
	default:
		return false
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

// again says whether a synchronous Apply may send the same bytes once more by
// itself: the transfer was aborted, and this node can still carry it.
func (r *Replica) again(ctx context.Context, f *Future) bool {
	return ctx.Err() == nil && f.res.Outcome == fsm.Aborted && errors.Is(f.err, ErrUnknown) && r.IsLeader()
}

// split cuts a large command into chunks. A cluster whose members do not all
// know chunks yet takes it whole, as the log alone bounds it.
func (r *Replica) split(encoded []byte) ([][]byte, error) {
	level := uint8(0)
	r.Read(func(s *fsm.State) { level = s.FeatureLevel() })
	if level >= 2 && len(encoded) > fsm.MaxEntry {
		return fsm.Split(encoded, chunkSize)
	}
	if level >= 2 {
		return [][]byte{encoded}, nil
	}
	if len(encoded) > maxWhole {
		return nil, fmt.Errorf("%w: %d bytes; the cap is %d until every server is upgraded (feature level 2)", fsm.ErrTooLarge, len(encoded), maxWhole)
	}
	return [][]byte{encoded}, nil
}
