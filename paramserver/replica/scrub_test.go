package replica

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// scrubbed is a node with two snapshots and a log behind them.
func scrubbed(t *testing.T) (*Replica, string) {
	t.Helper()
	dir := t.TempDir()
	cfg := founding(dir)
	cfg.TrailingBytes, cfg.ScrubRate = 8<<10, 1<<40
	r := start(t, cfg)
	lead(t, r)
	found(t, r)
	for v := range uint64(40) {
		mustApply(t, r, commit(v, 2000))
		if v%15 == 14 {
			if err := r.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return r, dir
}

func TestAScrubReadsEverything(t *testing.T) {
	r, _ := scrubbed(t)
	report, err := r.Scrub(testContext(t))
	if err != nil || report.Entries < 10 || report.Snapshots != 2 || report.Blobs != 2 || report.Bytes < 20000 {
		t.Fatalf("%+v, %v", report, err)
	}
	memory, err := OpenMemory("m", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, memory) })
	if _, err := memory.Scrub(testContext(t)); err != nil {
		t.Fatal(err)
	}
	stop(t, r)
	if _, err := r.Scrub(testContext(t)); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// TestAScrubFindsDamage flips one bit at a time in a running node.
func TestAScrubFindsDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, r *Replica, dir string)
		want   string
	}{
		"log entry": {func(t *testing.T, _ *Replica, dir string) { flip(t, logEntry(t, dir, 38)) }, "log entry"},
		"older snapshot": {func(t *testing.T, _ *Replica, dir string) {
			names, err := snapshotNames(dir)
			if err != nil {
				t.Fatal(err)
			}
			flip(t, place{filepath.Join(dir, snapshotsName, names[0].name, "state.bin"), 300})
		}, "snapshot"},
		"snapshot without its description": {func(t *testing.T, _ *Replica, dir string) {
			names, err := snapshotNames(dir)
			if err != nil {
				t.Fatal(err)
			}
			remove(t, dir, filepath.Join(snapshotsName, names[1].name, "meta.json"))
		}, "snapshot"},
		"parameters in memory": {func(_ *testing.T, r *Replica, _ string) { corrupt(r, func(j *fsm.Job) { j.Params[5] ^= 4 }) }, "parameters of job"},
		"moments in memory":    {func(_ *testing.T, r *Replica, _ string) { corrupt(r, func(j *fsm.Job) { j.Private[5] ^= 4 }) }, "private state of job"},
	} {
		t.Run(name, func(t *testing.T) {
			r, dir := scrubbed(t)
			c.damage(t, r, dir)
			if _, err := r.Scrub(testContext(t)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "empty directory") {
				t.Fatal(err)
			}
			<-r.Done()
			if !errors.Is(r.Err(), ErrDamaged) {
				t.Fatal(r.Err())
			}
		})
	}
}

// corrupt changes a job's blobs behind the state machine's back.
func corrupt(r *Replica, change func(*fsm.Job)) {
	r.machine.mu.Lock()
	defer r.machine.mu.Unlock()
	j, _ := r.machine.state.Job("j") // a copy that shares the blobs
	change(j)
}

// TestAScrubKeepsToItsRate and can be ended in between.
func TestAScrubKeepsToItsRate(t *testing.T) {
	r, _ := scrubbed(t)
	r.cfg.ScrubRate = 1000 // some 80 KB would take more than a minute
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	report, err := r.Scrub(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || report.Bytes > 10_000 || r.Err() != nil {
		t.Fatalf("%+v, %v, %v", report, err, r.Err())
	}
}

// TestANodeScrubsItself without being asked.
func TestANodeScrubsItself(t *testing.T) {
	cfg := founding(t.TempDir())
	cfg.ScrubEvery, cfg.ScrubRate = 20*time.Millisecond, 1<<40
	r := start(t, cfg)
	lead(t, r)
	found(t, r)
	mustApply(t, r, commit(0, 2000))
	corrupt(r, func(j *fsm.Job) { j.Params[5] ^= 4 })
	select {
	case <-r.Done():
	case <-testContext(t).Done():
		t.Fatal("damage was not found")
	}
	if !errors.Is(r.Err(), ErrDamaged) {
		t.Fatal(r.Err())
	}
}
