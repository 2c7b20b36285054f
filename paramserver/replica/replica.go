// Package replica keeps an fsm.State equal on several nodes: hashicorp/raft for
// the order of commands, raft-wal under a checking layer for the log, files for
// snapshots. One Replica is one node's copy.
package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/hashicorp/raft"
)

var (
	// ErrNotLeader is definite: this node did not take the command up and never
	// will. Send it to the leader.
	ErrNotLeader = errors.New("not the leader")
	// ErrUnknown says that the answer is lost, to leadership, shutdown or time:
	// the command may be applied or not, now or later. Read the state, then
	// send the same command again.
	ErrUnknown = errors.New("outcome unknown")
	// ErrClosed is definite: the replica is shut down or failed.
	ErrClosed = errors.New("replica is closed")
	// ErrDiverged says that this node's state is not what the majority of voters
	// holds at the same log index. It comes with ErrDamaged, as what it means for
	// the data directory is the same.
	ErrDiverged = errors.New("the state differs from the majority's")
	// ErrNotEmpty refuses to bootstrap in a directory with a history.
	ErrNotEmpty = errors.New("data directory is already in use")
)

// Replica is one node's copy of the replicated state. All methods are safe for
// concurrent use.
type Replica struct {
	cfg     Config
	log     *slog.Logger
	raft    *raft.Raft
	machine *machine
	trans   *transport    // nil in memory
	store   *checkedStore // nil in memory
	release func() error

	gate    gate
	barrier atomic.Uint64 // term in which a Barrier has passed

	life     context.Context // ends with stop and with failed
	end      context.CancelFunc
	stop     chan struct{} // closed by Shutdown
	failed   chan struct{} // closed by fail
	done     chan struct{} // closed when raft has stopped
	failOnce sync.Once
	failure  error // set before failed is closed

	mu     sync.Mutex // guards closed against Add
	closed bool
	wg     sync.WaitGroup // of the replica's own loops
	calls  sync.WaitGroup // of goroutines that wait for an answer of raft

	shutOnce sync.Once
	shutErr  error
}

func newReplica(cfg Config) *Replica {
	r := &Replica{
		cfg:    cfg,
		log:    cfg.Logger,
		gate:   newGate(),
		stop:   make(chan struct{}),
		failed: make(chan struct{}),
		done:   make(chan struct{}),
	}
	r.life, r.end = context.WithCancel(context.Background())
	r.machine = newMachine(cfg.SnapshotBytes, r.fail)
	r.machine.garble = cfg.ApplyFault
	return r
}

// Fail stops the replica for a reason found outside of it, such as ErrDiverged.
// Err then returns it.
func (r *Replica) Fail(err error) { r.fail(err) }

// fail stops the node: what it would serve or store from now on could be
// wrong. It is called from inside raft and must not wait for it.
func (r *Replica) fail(err error) {
	r.failOnce.Do(func() {
		err = storageError(r.cfg.Dir, err)
		r.failure = err
		r.log.Error("the replica stops", "error", err)
		close(r.failed)
		r.end()
	})
}

// supervise takes the snapshots that the machine finds due and stops raft
// after a failure.
func (r *Replica) supervise() {
	defer close(r.done)
	tick := time.NewTicker(r.cfg.SnapshotEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.machine.full:
			if r.machine.due(r.cfg.SnapshotBytes) { // or the snapshot just taken covers the signal
				r.snapshotDue()
			}
		case <-tick.C:
			if r.machine.due(1) {
				r.snapshotDue()
			}
		case <-r.failed:
			r.stopRaft()
			return
		case <-r.stop:
			r.stopRaft()
			return
		}
	}
}

// settleTimeout is how long raft may take to answer what it was asked before it
// is shut down, and how long answers may take after that.
const settleTimeout = time.Second

// stopRaft shuts raft down once it has answered its callers. One that raft has in
// a queue at its shutdown would never be answered: such a caller is left behind,
// rather than the whole process with it.
func (r *Replica) stopRaft() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	answered := make(chan struct{})
	go func() {
		r.calls.Wait()
		close(answered)
	}()
	r.settle(answered)
	r.raft.Shutdown().Error()
	r.settle(answered)
}

func (r *Replica) settle(answered <-chan struct{}) {
	t := time.NewTimer(settleTimeout)
	defer t.Stop()
	select {
	case <-answered:
	case <-t.C:
	}
}

func (r *Replica) snapshotDue() {
	if err := r.Snapshot(); err != nil && !errors.Is(err, raft.ErrRaftShutdown) && r.Err() == nil {
		r.log.Warn("snapshot failed; the log grows until the next one", "error", err)
	}
}

// Snapshot writes the state to disk and shortens the log. The replica does so
// by itself after Config.SnapshotBytes of entries, and every
// Config.SnapshotEvery in which anything was applied.
func (r *Replica) Snapshot() error {
	keep := r.raft.ReloadableConfig()
	keep.TrailingLogs = r.machine.trailing(r.cfg.TrailingBytes)
	if err := r.raft.ReloadConfig(keep); err != nil {
		return fmt.Errorf("set trailing logs: %w", err)
	}
	if err := r.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// Done is closed once the replica has stopped, by Shutdown or by a failure;
// Err tells which.
func (r *Replica) Done() <-chan struct{} { return r.done }

// Err is the failure that stopped the replica, nil if there was none: damaged
// storage (ErrDamaged), a full disk, a log entry or snapshot of a newer build
// (fsm.ErrUnknownCommand, fsm.ErrNewerSnapshot). The process should exit with it.
func (r *Replica) Err() error {
	select {
	case <-r.failed:
		return r.failure
	default:
		return nil
	}
}

// ID is the node's identity.
func (r *Replica) ID() string { return r.cfg.ID }

// Addr is the raft address that the replica listens on, "" in memory.
func (r *Replica) Addr() string {
	if r.trans == nil {
		return ""
	}
	return r.trans.layer.Addr().String()
}

// Read calls f with the applied state under a read lock. f must be short, must
// not change the state, and must not keep it; blobs may be kept, as they are
// never written to.
func (r *Replica) Read(f func(*fsm.State)) { r.machine.read(f) }

// View freezes the applied state.
func (r *Replica) View() *fsm.View {
	var v *fsm.View
	r.machine.read(func(s *fsm.State) { v = s.Snapshot() })
	return v
}

// Changed returns a channel that is closed at the next change of the applied
// state. Take it before reading the state, and no change is missed:
//
//	for {
//		changed := r.Changed()
//		r.Read(look)
//		select { case <-changed: case <-r.Done(): return }
//	}
func (r *Replica) Changed() <-chan struct{} {
	_, changed := r.machine.progress()
	return changed
}

// Shutdown hands leadership to another voter if there is one, for which it
// waits no longer than ctx allows, then stops everything and releases the
// directory. It may be called again, and after a failure.
func (r *Replica) Shutdown(ctx context.Context) error {
	r.shutOnce.Do(func() { r.shutErr = r.shutdown(ctx) })
	return r.shutErr
}

func (r *Replica) shutdown(ctx context.Context) error {
	if r.IsLeader() && r.hasOtherVoters() {
		if err := r.await(ctx, r.raft.LeadershipTransfer()); err != nil {
			r.log.Info("leadership was not handed over", "error", err)
		}
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	close(r.stop)
	r.end()
	r.wg.Wait()
	return r.release()
}

func (r *Replica) hasOtherVoters() bool {
	servers, err := r.Servers()
	if err != nil {
		return false
	}
	for _, s := range servers {
		if s.Voter && s.ID != r.cfg.ID {
			return true
		}
	}
	return false
}

// goFunc runs f, which waits for raft, in a goroutine; false once the replica stops.
func (r *Replica) goFunc(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.calls.Go(f)
	return true
}

// await waits for a raft future, for the replica's end, or for ctx, whichever is
// first.
func (r *Replica) await(ctx context.Context, f raft.Future) error {
	result := make(chan error, 1)
	if !r.goFunc(func() { result <- f.Error() }) {
		return ErrClosed
	}
	select {
	case err := <-result:
		return err
	case <-r.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
