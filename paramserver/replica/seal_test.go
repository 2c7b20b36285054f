package replica

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

var errKilled = errors.New("killed")

// killedMeta is an index file that takes no more than a number of changes.
type killedMeta struct {
	*metadb.BoltMetaDB
	changes int
}

func (k *killedMeta) CommitState(s types.PersistentState) error {
	if k.changes--; k.changes < 0 {
		return errKilled
	}
	return k.BoltMetaDB.CommitState(s)
}

func numbered(i uint64) *raft.Log {
	return &raft.Log{Index: i, Term: 1, Data: bytes.Repeat([]byte{byte(i)}, 1000)}
}

// sealedTail makes a log that was killed between sealing a segment and naming
// the next one; it returns the last entry's index.
func sealedTail(t *testing.T, dir string, removed uint64) uint64 {
	t.Helper()
	changes := 1 // the first segment
	if removed > 0 {
		changes++
	}
	meta := &killedMeta{changes: changes, BoltMetaDB: &metadb.BoltMetaDB{}}
	w, err := raftwal.Open(dir, raftwal.WithSegmentSize(64<<10), raftwal.WithMetaStore(meta), raftwal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for err == nil {
		if last == 20 && removed > 0 {
			if err := w.DeleteRange(1, removed); err != nil {
				t.Fatal(err)
			}
		}
		if err = w.StoreLog(numbered(last + 1)); err == nil {
			last++
		}
	}
	if !errors.Is(err, raftwal.ErrSealed) {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return last
}

func wantEntries(t *testing.T, w *raftwal.WAL, first, last uint64) {
	t.Helper()
	if f, err := w.FirstIndex(); err != nil || f != first {
		t.Fatal(f, err)
	}
	if l, err := w.LastIndex(); err != nil || l != last {
		t.Fatal(l, err)
	}
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := w.GetLog(i, &l); err != nil || !bytes.Equal(l.Data, numbered(i).Data) {
			t.Fatal(i, err)
		}
	}
}

func TestALogKilledWhileItChangesSegmentsGoesOn(t *testing.T) {
	for name, removed := range map[string]uint64{"whole": 0, "shortened": 7} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			last := sealedTail(t, dir, removed)
			// The mending itself may be killed before its result counts.
			killed := &killedMeta{BoltMetaDB: &metadb.BoltMetaDB{}}
			if err := errors.Join(reopenTail(dir, killed), killed.Close()); !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			for range 2 { // a log that takes appends is left as it is
				w, err := openWAL(dir, hclog.NewNullLogger())
				if err != nil {
					t.Fatal(err)
				}
				wantEntries(t, w, removed+1, last)
				for range 100 {
					last++
					if err := w.StoreLog(numbered(last)); err != nil {
						t.Fatal(err)
					}
				}
				wantEntries(t, w, removed+1, last)
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if files, err := filepath.Glob(filepath.Join(dir, "*.wal")); err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
		})
	}
}

func TestARefusalOfTheSystemIsNoDamage(t *testing.T) {
	for _, c := range []struct {
		err    error
		damage bool
	}{
		{nil, false},
		{fmt.Errorf("allocate: %w", syscall.ENOSPC), false},
		{&fs.PathError{Op: "open", Path: "x.wal", Err: syscall.EACCES}, false},
		{&fs.PathError{Op: "open", Path: "x.wal", Err: syscall.ENOENT}, true},
		{types.ErrCorrupt, true},
	} {
		if err := unopened(c.err); !errors.Is(err, c.err) || errors.Is(err, ErrDamaged) != c.damage {
			t.Errorf("%v became %v", c.err, err)
		}
	}
}

// indexThatPanics is raft-wal's index file when a page of it is damaged.
type indexThatPanics struct{ raft.StableStore }

func (indexThatPanics) SetUint64([]byte, uint64) error { panic("zero-length inode key") }

func TestADamagedIndexIsAnError(t *testing.T) {
	logs := raft.NewInmemStore()
	addr, trans := raft.NewInmemTransport("")
	cfg := raftConfig("n", true, hclog.NewNullLogger())
	self := raft.Configuration{Servers: []raft.Server{{ID: cfg.LocalID, Address: addr}}}
	if err := raft.BootstrapCluster(cfg, logs, logs, raft.NewDiscardSnapshotStore(), trans, self); err != nil {
		t.Fatal(err)
	}
	r, err := newRaft(cfg, newMachine(1, func(error) {}), logs, indexThatPanics{logs}, raft.NewDiscardSnapshotStore(), trans)
	if r != nil || !errors.Is(err, ErrDamaged) {
		t.Fatal(r, err)
	}
}

// TestALogOutlivesTheLossOfItsEnd is what a deposed leader goes through: its
// last entries were never committed, the new leader replaces them, and later the
// process is started again.
func TestALogOutlivesTheLossOfItsEnd(t *testing.T) {
	dir := t.TempDir()
	last := uint64(0)
	for range 3 {
		w, err := openWAL(dir, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			last++
			if err := w.StoreLog(numbered(last)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.DeleteRange(last-3, last); err != nil {
			t.Fatal(err)
		}
		last -= 4
		wantEntries(t, w, 1, last)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w, err := openWAL(dir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(t, w, 1, last)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, metadb.FileName)); err != nil {
		t.Fatal(err)
	}
}
