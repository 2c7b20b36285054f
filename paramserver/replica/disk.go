package replica

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// ErrNoSpace says that the disk had no room for a log entry, a vote or a
// snapshot. The node stops; once there is room it goes on where it was: what was
// acknowledged is on the disk.
var ErrNoSpace = errors.New("no space left in the data directory")

// storageError names a full disk. raft-wal has no room for its next segment and
// says only that the last one is sealed, so the disk is asked.
func storageError(dir string, err error) error {
	cause := err
	if errors.Is(err, types.ErrSealed) {
		cause = probe(dir)
	}
	if errors.Is(cause, syscall.ENOSPC) || errors.Is(cause, syscall.EDQUOT) {
		return fmt.Errorf("%w: free some space on the disk of %s and start the node again: %w", ErrNoSpace, dir, err)
	}
	return err
}

// probe writes as much as a new segment of the log takes, and deletes it.
func probe(dir string) (err error) {
	f, err := os.CreateTemp(dir, "probe-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	page := make([]byte, 1<<20)
	for range segmentSize / len(page) {
		if _, err := f.Write(page); err != nil {
			return err
		}
	}
	return f.Sync()
}

// haltingLog and haltingStable stand between raft and its stores. raft panics
// when an entry cannot be read or a vote cannot be kept; by then fail has the
// reason and stops the node in good order, so the goroutine that would panic ends
// here instead. It runs its deferred calls, which is what raft's shutdown waits for.
type haltingLog struct{ raft.LogStore }

// IsMonotonic implements raft.MonotonicLogStore.
func (l haltingLog) IsMonotonic() bool { return true }

// GetLog implements raft.LogStore.
func (l haltingLog) GetLog(index uint64, log *raft.Log) error {
	err := l.LogStore.GetLog(index, log)
	if errors.Is(err, ErrDamaged) {
		runtime.Goexit()
	}
	return err
}

type haltingStable struct {
	raft.StableStore
	fault func(what string) error
	fail  func(error)
}

// Set implements raft.StableStore.
func (s haltingStable) Set(key, value []byte) error {
	return s.write(func() error { return s.StableStore.Set(key, value) })
}

// SetUint64 implements raft.StableStore.
func (s haltingStable) SetUint64(key []byte, value uint64) error {
	return s.write(func() error { return s.StableStore.SetUint64(key, value) })
}

func (s haltingStable) write(change func() error) error {
	err := s.fault(FaultVote)
	if err == nil {
		err = change()
	}
	if err != nil {
		s.fail(fmt.Errorf("keep the term and the vote: %w", err))
		runtime.Goexit()
	}
	return nil
}

// Kinds of writes that Config.WriteFault is asked about.
const (
	FaultLog      = "log"
	FaultVote     = "vote"
	FaultSnapshot = "snapshot"
)

// haltingSnapshots stops the node when a snapshot finds no room: a log that only
// grows would fill what is left.
type haltingSnapshots struct {
	raft.SnapshotStore
	fault func(what string) error
	fail  func(error)
}

// Create implements raft.SnapshotStore.
func (s haltingSnapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, c, ci, t)
	if err != nil {
		return nil, s.failed(index, err)
	}
	return &haltingSink{SnapshotSink: sink, store: s, index: index}, nil
}

func (s haltingSnapshots) failed(index uint64, err error) error {
	err = fmt.Errorf("snapshot at index %d: %w", index, err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		s.fail(err)
	}
	return err
}

type haltingSink struct {
	raft.SnapshotSink
	store haltingSnapshots
	index uint64
}

// Write implements io.Writer.
func (s *haltingSink) Write(b []byte) (int, error) {
	if err := s.store.fault(FaultSnapshot); err != nil {
		return 0, s.store.failed(s.index, err)
	}
	n, err := s.SnapshotSink.Write(b)
	if err != nil {
		err = s.store.failed(s.index, err)
	}
	return n, err
}

// Close implements io.Closer: it makes the snapshot count.
func (s *haltingSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return s.store.failed(s.index, err)
	}
	return nil
}
