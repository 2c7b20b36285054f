package replica

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// askers is three voters of which each can ask the leader for its read index.
func askers(t *testing.T) *peers {
	t.Helper()
	return voters(t, found2, func(p *peers, _ string) Config {
		ask := func(ctx context.Context) (uint64, error) {
			p.mu.Lock()
			all := p.all
			p.mu.Unlock()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for asked, cancel := context.WithTimeout(ctx, 2*time.Second); ; { // an election takes its time
				for _, r := range all {
					if index, err := r.ReadIndex(asked); err == nil {
						cancel()
						return index, nil
					}
				}
				select {
				case <-tick.C:
				case <-asked.Done():
					cancel()
					return 0, ErrNotLeader
				}
			}
		}
		return Config{ClusterID: "c", ReadIndex: ask}
	})
}

// TestReadsOnAnyReplicaSeeWhatWasAnswered: right after every answer a follower
// that linearizes must see it, also when the log ends with entries that reach no
// state machine.
func TestReadsOnAnyReplicaSeeWhatWasAnswered(t *testing.T) {
	p := askers(t)
	for v := range uint64(50) {
		applyAnywhere(t, p.all, commit(v, 4000))
		for _, r := range p.all {
			if err := r.Linearize(testContext(t)); err != nil {
				t.Fatal(r.ID(), err)
			}
			if got := version(r); got != v+1 {
				t.Fatalf("%s read version %d after %d was answered", r.ID(), got, v+1)
			}
		}
	}
	// A new leader: its term begins with an entry that no state machine sees.
	if err := lead(t, p.all...).TransferLeadership(testContext(t)); err != nil {
		t.Log("another leader was there first:", err)
	}
	next := lead(t, p.all...)
	for _, r := range p.all {
		if err := r.Linearize(testContext(t)); err != nil {
			t.Fatal(r.ID(), err)
		}
	}
	// A configuration entry at the end likewise.
	for {
		err := next.AddNonvoter(testContext(t), "x", "127.0.0.1:1")
		if err == nil {
			break
		}
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknown) {
			t.Fatal(err)
		}
		next = lead(t, p.all...)
	}
	for _, r := range p.all {
		if err := r.Linearize(testContext(t)); err != nil {
			t.Fatal(r.ID(), err)
		}
	}
	applyAnywhere(t, p.all, commit(50, 4000))
}

func TestAFollowerWithoutALeaderDoesNotAnswer(t *testing.T) {
	var asked atomic.Int64
	r := start(t, Config{Dir: t.TempDir(), ID: "a", ReadIndex: func(context.Context) (uint64, error) {
		asked.Add(1)
		return 0, ErrNotLeader
	}})
	if err := r.Linearize(testContext(t)); !errors.Is(err, ErrNotLeader) || asked.Load() != 1 {
		t.Fatal(err, asked.Load())
	}
	// An index that never comes: the caller's patience ends it.
	far := start(t, Config{Dir: t.TempDir(), ID: "b", ReadIndex: func(context.Context) (uint64, error) { return 1000, nil }})
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if err := far.Linearize(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// TestADeposedLeaderDoesNotAnswerReads cuts a leader off: what the others commit
// afterwards must be missing from nothing that it answers.
func TestADeposedLeaderDoesNotAnswerReads(t *testing.T) {
	p := askers(t)
	old := p.all[0]
	lead(t, old)
	stop(t, p.all[1])
	stop(t, p.all[2]) // it leads nobody now, and cannot know for a moment
	ctx := testContext(t)
	if err := old.Linearize(ctx); err == nil {
		t.Fatal("a leader without its voters answered a read")
	}
	var v uint64
	old.Read(func(s *fsm.State) { j, _ := s.Job("j"); v = j.Version })
	if v != 0 {
		t.Fatal(v)
	}
}
