package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests; none of them needs a tenth of it.
const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start opens a replica and shuts it down with the test, at the latest.
func start(t testing.TB, cfg Config) *Replica {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, r) })
	return r
}

func stop(t testing.TB, r *Replica) {
	t.Helper()
	if err := r.Shutdown(testContext(t)); err != nil {
		t.Error(err)
	}
}

func single(dir string) Config { return Config{Dir: dir, ID: "a", Single: true} }

func founding(dir string) Config {
	cfg := single(dir)
	cfg.Bootstrap = true
	return cfg
}

// lead waits until one of the replicas is a leader that others follow.
func lead(t testing.TB, replicas ...*Replica) *Replica {
	t.Helper()
	ctx := testContext(t)
	for ctx.Err() == nil {
		for _, r := range replicas {
			if _, err := r.ReadIndex(ctx); err == nil {
				return r
			}
		}
		wait, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		<-wait.Done()
		cancel()
	}
	t.Fatal("no leader")
	return nil
}

// until waits for a condition on the applied state.
func until(t testing.TB, r *Replica, what string, cond func(*fsm.State) bool) {
	t.Helper()
	ctx := testContext(t)
	for {
		changed, ok := r.Changed(), false
		r.Read(func(s *fsm.State) { ok = cond(s) })
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s never saw %s", r.ID(), what)
		}
	}
}

func apply(t testing.TB, r *Replica, cmd any) fsm.Result {
	t.Helper()
	res, err := r.Apply(testContext(t), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func mustApply(t testing.TB, r *Replica, cmds ...any) {
	t.Helper()
	for _, c := range cmds {
		if res := apply(t, r, c); res.Outcome != fsm.Applied {
			t.Fatalf("%T: %+v", c, res)
		}
	}
}

// found sets up job "j" with learner n at epoch 1.
func found(t testing.TB, r *Replica) {
	t.Helper()
	mustApply(t, r, fsm.Init{ClusterID: "c"}, fsm.CreateJob{Job: "j", Spec: []byte("{}"), Updates: 1 << 30},
		fsm.Grant{Job: "j", Epoch: 1, Node: "n"})
}

// commit is the step from version v to v+1 with a state of about size bytes.
func commit(v uint64, size int) fsm.Commit {
	params := make([]byte, max(4, size/12*4))
	for i := 0; i < len(params); i += 4 {
		binary.LittleEndian.PutUint32(params[i:], math.Float32bits(float32(v)+float32(i)))
	}
	return fsm.Commit{Job: "j", Epoch: 1, Base: v, Version: v + 1, Params: params, Private: make([]byte, 2*len(params))}
}

func version(r *Replica) (v uint64) {
	r.Read(func(s *fsm.State) {
		if j, ok := s.Job("j"); ok {
			v = j.Version
		}
	})
	return v
}

func chain(r *Replica) (h fsm.Hash) {
	r.Read(func(s *fsm.State) { h = s.Chain() })
	return h
}

func TestSingleVoterKeepsItsStateOverARestart(t *testing.T) {
	dir := t.TempDir()
	r := start(t, founding(dir))
	lead(t, r)
	found(t, r)
	for v := range uint64(20) {
		mustApply(t, r, commit(v, 1000))
	}
	want := chain(r)
	stop(t, r)

	r = start(t, single(dir))
	lead(t, r)
	if version(r) != 20 || chain(r) != want {
		t.Fatalf("version %d, chain equal: %v", version(r), chain(r) == want)
	}
	mustApply(t, r, commit(20, 1000))
}

// A killed process leaves its files as they are; so does a copy of them.
func TestACopyOfTheDirectoryHoldsEveryAnsweredCommit(t *testing.T) {
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	r := start(t, founding(dir))
	lead(t, r)
	found(t, r)
	for v := range uint64(20) {
		mustApply(t, r, commit(v, 1000))
	}
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	want := chain(r)
	stop(t, r)

	r = start(t, single(image))
	lead(t, r)
	if version(r) != 20 || chain(r) != want {
		t.Fatalf("version %d, chain equal: %v", version(r), chain(r) == want)
	}
}

func TestSnapshotsShortenTheLogAndAreRestored(t *testing.T) {
	dir := t.TempDir()
	cfg := founding(dir)
	cfg.SnapshotBytes, cfg.TrailingBytes = 64<<10, 16<<10
	r := start(t, cfg)
	lead(t, r)
	found(t, r)
	for v := range uint64(100) {
		mustApply(t, r, commit(v, 4000))
	}
	if err := r.Snapshot(); err != nil {
		t.Fatal(err)
	}
	want := chain(r)
	stop(t, r)
	names, err := snapshotNames(dir)
	if err != nil || len(names) == 0 || len(names) > retain {
		t.Fatalf("%d snapshots, %v", len(names), err)
	}

	cfg.Bootstrap = false
	r = start(t, cfg)
	lead(t, r)
	if version(r) != 100 || chain(r) != want {
		t.Fatalf("version %d, chain equal: %v", version(r), chain(r) == want)
	}
}

func TestTwoCommitsInFlightApplyInOrder(t *testing.T) {
	r, err := OpenMemory("a", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, r) })
	lead(t, r)
	found(t, r)
	for v := uint64(0); v < 100; v += 2 {
		first, second := r.ApplyAsync(commit(v, 100)), r.ApplyAsync(commit(v+1, 100))
		for _, f := range []*Future{first, second} {
			if res, err := f.Wait(testContext(t)); err != nil || res.Outcome != fsm.Applied {
				t.Fatalf("from version %d: %+v, %v", v, res, err)
			}
		}
		if first.Index() >= second.Index() {
			t.Fatalf("indices %d, %d", first.Index(), second.Index())
		}
	}
}

func TestBootstrapRefusesAUsedDirectory(t *testing.T) {
	dir := t.TempDir()
	if used, err := Initialised(dir); used || err != nil {
		t.Fatal(used, err)
	}
	r := start(t, founding(dir))
	lead(t, r)
	if _, err := Open(Config{Dir: dir, ID: "a", Listen: "127.0.0.1:0"}); err == nil {
		t.Fatal("two replicas share a directory")
	}
	stop(t, r)
	if used, err := Initialised(dir); !used || err != nil {
		t.Fatal(used, err)
	}
	cfg := founding(dir)
	cfg.Listen = "127.0.0.1:0"
	if _, err := Open(cfg); !errors.Is(err, ErrNotEmpty) {
		t.Fatal(err)
	}
}

func TestAFreshDirectoryWithoutBootstrapDoesNotLead(t *testing.T) {
	r := start(t, Config{Dir: t.TempDir(), ID: "a"})
	if _, err := r.Apply(testContext(t), fsm.Init{ClusterID: "c"}); !errors.Is(err, ErrNotLeader) {
		t.Fatal(err)
	}
	if err := r.Linearize(testContext(t)); !errors.Is(err, ErrNotLeader) {
		t.Fatal(err)
	}
}

func TestAnsweredErrorsAreDefinite(t *testing.T) {
	r := start(t, founding(t.TempDir()))
	lead(t, r)
	if _, err := r.Apply(testContext(t), "no command"); !errors.Is(err, fsm.ErrUnknownCommand) {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.ApplyAsync(fsm.Init{ClusterID: "c"}).Wait(ended); err != nil && !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	if err := r.AddVoter(testContext(t), "b", "127.0.0.1:1"); !errors.Is(err, ErrSingle) {
		t.Fatal(err)
	}
	stop(t, r)
	if _, err := r.Apply(testContext(t), fsm.Init{ClusterID: "c"}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	<-r.Done()
}

func TestAnEntryOfANewerBuildStopsTheNode(t *testing.T) {
	r := start(t, founding(t.TempDir()))
	lead(t, r)
	found(t, r)
	want := chain(r)
	err := r.raft.Apply([]byte{fsm.FormatVersion, fsm.FeatureLevel, 200, 0x80}, 0).Error()
	<-r.Done()
	if !errors.Is(r.Err(), fsm.ErrUnknownCommand) {
		t.Fatal(r.Err(), err)
	}
	if chain(r) != want {
		t.Fatal("the state changed")
	}
	if _, err := r.Apply(testContext(t), fsm.Init{ClusterID: "c"}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestFaultsInTheConfigNameTheField(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{Dir: "d"},
		{Dir: "d", ID: "a"},
		{Dir: "d", ID: "a", Listen: "l", SnapshotBytes: -1},
		{Dir: "d", ID: "a", Listen: "l", TrailingBytes: 1 << 40},
	} {
		var fault *fielderr.Error
		if _, err := Open(cfg); !errors.As(err, &fault) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	r := start(b, founding(b.TempDir()))
	lead(b, r)
	found(b, r)
	const size = 852 << 10
	b.SetBytes(size)
	v := uint64(0)
	for b.Loop() {
		mustApply(b, r, commit(v, size))
		v++
	}
}
