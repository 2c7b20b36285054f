package replica

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

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

// voters starts a, b and c, of which a founds their cluster and its job.
func voters(t *testing.T, founded func(testing.TB, *Replica), config func(p *peers, id string) Config) *peers {
	t.Helper()
	p := &peers{addr: map[string]string{}}
	for i, id := range []string{"a", "b", "c"} {
		cfg := config(p, id)
		cfg.Dir, cfg.ID, cfg.Bootstrap = t.TempDir(), id, i == 0
		r := p.start(t, cfg)
		if i == 0 {
			lead(t, r)
			founded(t, r)
		} else if err := p.all[0].AddVoter(testContext(t), id, r.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	return p
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
