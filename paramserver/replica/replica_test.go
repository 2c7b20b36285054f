package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

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

// lead waits until one of the replicas can answer linearizable reads.
func lead(t testing.TB, replicas ...*Replica) *Replica {
	t.Helper()
	ctx := testContext(t)
	for ctx.Err() == nil {
		for _, r := range replicas {
			if r.Linearize(ctx) == nil {
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
		if _, err := Open(cfg); err == nil {
			t.Errorf("%+v opened", cfg)
		}
	}
}

// peers is a cluster over loopback whose nodes find each other by ID.
type peers struct {
	mu   sync.Mutex
	addr map[string]string
	all  []*Replica
}

func (p *peers) resolve(id string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.addr[id]
	return a, ok
}

func (p *peers) start(t *testing.T, cfg Config) *Replica {
	t.Helper()
	cfg.Resolve = p.resolve
	r := start(t, cfg)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr[cfg.ID] = r.Addr()
	p.all = append(p.all, r)
	return r
}

// three returns a cluster of three voters that has a job.
func three(t *testing.T) *peers {
	t.Helper()
	p := &peers{addr: map[string]string{}}
	small := Config{SnapshotBytes: 256 << 10, TrailingBytes: 32 << 10}
	for i := range 3 {
		cfg := small
		cfg.Dir, cfg.ID, cfg.Bootstrap = t.TempDir(), fmt.Sprintf("node-%d", i), i == 0
		r := p.start(t, cfg)
		if i == 0 {
			lead(t, r)
			found(t, r)
			// The others must be reached by a snapshot.
			for v := range uint64(100) {
				mustApply(t, r, commit(v, 8000))
			}
			if err := r.Snapshot(); err != nil {
				t.Fatal(err)
			}
		} else if err := p.all[0].AddVoter(testContext(t), r.ID(), r.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestThreeVotersAgreeAndSurviveTheirLeader(t *testing.T) {
	p := three(t)
	leader := lead(t, p.all...)
	for v := uint64(100); v < 300; v++ {
		mustApply(t, leader, commit(v, 8000))
	}
	var index uint64
	leader.Read(func(s *fsm.State) { index = s.Index() })
	for _, r := range p.all {
		until(t, r, "the last commit", func(s *fsm.State) bool { return s.Index() >= index })
		if chain(r) != chain(leader) {
			t.Fatalf("%s has another hash chain", r.ID())
		}
	}
	for _, r := range p.all {
		if r == leader {
			continue
		}
		if _, err := r.Apply(testContext(t), commit(300, 100)); !errors.Is(err, ErrNotLeader) {
			t.Fatalf("a follower answered %v", err)
		}
	}

	stop(t, leader)
	var rest []*Replica
	for _, r := range p.all {
		if r != leader {
			rest = append(rest, r)
		}
	}
	next := lead(t, rest...)
	if version(next) != 300 {
		t.Fatalf("the new leader is at version %d", version(next))
	}
	for v := uint64(300); v < 310; v++ {
		mustApply(t, next, commit(v, 8000))
	}

	if err := next.RemoveServer(testContext(t), leader.ID()); err != nil {
		t.Fatal(err)
	}
	servers, err := next.Servers()
	if err != nil || len(servers) != 2 {
		t.Fatal(servers, err)
	}
	if id, addr := next.Leader(); id != next.ID() || addr == "" {
		t.Fatal(id, addr)
	}
}

func TestALeaderThatFailsIsReplaced(t *testing.T) {
	p := three(t)
	leader := lead(t, p.all...)
	mustApply(t, leader, commit(100, 8000))
	broken := errors.New("no space left on device")
	leader.fail(broken)
	<-leader.Done()
	if !errors.Is(leader.Err(), broken) {
		t.Fatal(leader.Err())
	}
	var rest []*Replica
	for _, r := range p.all {
		if r != leader {
			rest = append(rest, r)
		}
	}
	next := lead(t, rest...)
	if version(next) != 101 {
		t.Fatalf("the new leader is at version %d", version(next))
	}
	if res := apply(t, next, commit(100, 8000)); res.Outcome != fsm.AlreadyApplied {
		t.Fatalf("a resent commit: %+v", res)
	}
	mustApply(t, next, commit(101, 8000))
}

func TestAFollowerRestartsUnderANewAddress(t *testing.T) {
	p := three(t)
	leader := lead(t, p.all...)
	follower := p.all[2]
	if follower == leader {
		follower = p.all[1]
	}
	cfg := follower.cfg
	stop(t, follower)
	mustApply(t, leader, commit(100, 8000))
	cfg.Listen = "127.0.0.1:0"
	follower = p.start(t, cfg)
	until(t, follower, "version 101", func(s *fsm.State) bool { j, ok := s.Job("j"); return ok && j.Version == 101 })
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
