package replica

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// full is a disk without room for one kind of writes, once it is told so.
type full struct {
	what string
	on   atomic.Bool
}

func (f *full) fault(what string) error {
	if what == f.what && f.on.Load() {
		return &os.PathError{Op: "write", Path: "somewhere", Err: syscall.ENOSPC}
	}
	return nil
}

func wantNoSpace(t *testing.T, r *Replica, dir string) {
	t.Helper()
	select {
	case <-r.Done():
	case <-testContext(t).Done():
		t.Fatal("the node goes on")
	}
	if err := r.Err(); !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), dir) {
		t.Fatal(err)
	}
	if err := r.Linearize(testContext(t)); !errors.Is(err, ErrClosed) {
		t.Fatal("a stopped node answers reads:", err)
	}
}

// TestAFullDiskStopsTheNodeAndNothingElse: whatever finds no room, the node says
// so and stops, and what was answered is there after a restart with room.
func TestAFullDiskStopsTheNodeAndNothingElse(t *testing.T) {
	for _, what := range []string{FaultLog, FaultSnapshot} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			disk := &full{what: what}
			cfg := founding(dir)
			cfg.WriteFault = disk.fault
			r := start(t, cfg)
			lead(t, r)
			found(t, r)
			mustApply(t, r, commit(0, 1000))
			disk.on.Store(true)
			if what == FaultLog {
				if _, err := r.Apply(testContext(t), commit(1, 1000)); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
			} else if err := r.Snapshot(); err == nil {
				t.Fatal("a snapshot on a full disk")
			}
			wantNoSpace(t, r, dir)
			stop(t, r)

			r = start(t, single(dir))
			lead(t, r)
			if v := version(r); v != 1 {
				t.Fatalf("version %d after the restart", v)
			}
			mustApply(t, r, commit(1, 1000))
		})
	}
}

// TestAVoteThatCannotBeKeptStopsTheNode: raft panics there.
func TestAVoteThatCannotBeKeptStopsTheNode(t *testing.T) {
	disk := &full{what: FaultVote}
	p := voters(t, found, func(_ *peers, id string) Config {
		if id == "c" {
			return Config{WriteFault: disk.fault}
		}
		return Config{}
	})
	disk.on.Store(true)
	if err := p.all[0].TransferLeadership(testContext(t)); err != nil && !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	wantNoSpace(t, p.all[2], p.all[2].cfg.Dir)
	mustApply(t, lead(t, p.all[:2]...), commit(0, 1000))
}

// TestARealDiskThatFillsUp runs a node on a small tmpfs until it is full.
func TestARealDiskThatFillsUp(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=40m", "driftmesh-test", dir).CombinedOutput(); err != nil {
		t.Skipf("no tmpfs of 40 MiB can be mounted here (root may): %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	data := filepath.Join(dir, "data")
	cfg := founding(data)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 12<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	lead(t, r)
	found(t, r)
	answered := uint64(0)
	for ; ; answered++ {
		res, err := r.Apply(testContext(t), commit(answered, 1<<20))
		if err != nil {
			break
		}
		if res.Outcome != fsm.Applied {
			t.Fatal(res)
		}
	}
	wantNoSpace(t, r, data)
	stop(t, r)
	if answered < 5 {
		t.Fatalf("full after %d commits", answered)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r = start(t, single(data))
	lead(t, r)
	// The one that was not answered may be in or not.
	if v := version(r); v != answered && v != answered+1 {
		t.Fatalf("version %d after %d answers", v, answered)
	}
	mustApply(t, r, commit(version(r), 1<<20))
}

func TestASnapshotIsDueByTime(t *testing.T) {
	dir := t.TempDir()
	cfg := founding(dir)
	cfg.SnapshotEvery = 50 * time.Millisecond
	r := start(t, cfg)
	lead(t, r)
	found(t, r)
	ctx := testContext(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		names, err := snapshotNames(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("no snapshot was taken")
		}
	}
}
