package replica

import (
	"errors"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// found2 is found at feature level 2.
func found2(t testing.TB, r *Replica) {
	t.Helper()
	mustApply(t, r, fsm.Init{ClusterID: "c"}, fsm.Activate{Level: 2}, fsm.CreateJob{Job: "j", Spec: []byte("{}"), Updates: 1 << 30},
		fsm.Grant{Job: "j", Epoch: 1, Node: "n"})
}

// largeState is a state that takes several entries, and more than may be in flight.
const largeState = 10 * fsm.MaxEntry

func TestALargeCommitTravelsInChunks(t *testing.T) {
	dir := t.TempDir()
	r := start(t, founding(dir))
	lead(t, r)
	found2(t, r)
	before := r.LastIndex()
	mustApply(t, r, commit(0, largeState))
	if n := r.LastIndex() - before; n < 10 {
		t.Fatalf("a commit of %d bytes took %d entries", largeState, n)
	}
	if res := apply(t, r, commit(0, largeState)); res.Outcome != fsm.AlreadyApplied {
		t.Fatalf("the same bytes again: %+v", res)
	}
	if res := apply(t, r, commit(5, largeState)); res.Outcome != fsm.WrongBase {
		t.Fatalf("from another base: %+v", res)
	}
	// Two in flight, and small commands between their parts.
	first, second := r.ApplyAsync(commit(1, largeState)), r.ApplyAsync(fsm.Note{Kind: fsm.EventJoined, Node: "x"})
	third := r.ApplyAsync(commit(2, largeState))
	for _, f := range []*Future{first, second, third} {
		if res, err := f.Wait(testContext(t)); err != nil || res.Outcome != fsm.Applied {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	if first.Index() >= third.Index() || third.Index() == 0 {
		t.Fatal(first.Index(), third.Index())
	}
	want := chain(r)
	stop(t, r)
	r = start(t, single(dir))
	lead(t, r)
	if version(r) != 3 || chain(r) != want {
		t.Fatalf("version %d after a restart, chain equal: %v", version(r), chain(r) == want)
	}
}

func TestChunksFromElsewhereAreProposedOneByOne(t *testing.T) {
	r, err := OpenMemory("a", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, r) })
	lead(t, r)
	found2(t, r)
	encoded, err := fsm.Encode(commit(0, largeState))
	if err != nil {
		t.Fatal(err)
	}
	parts, err := fsm.Split(encoded, fsm.MaxEntry)
	if err != nil {
		t.Fatal(err)
	}
	var last *Future
	for i, p := range parts {
		if i == 3 { // a gap: the transfer is aborted, and says so
			if res, err := r.ApplyEncoded(testContext(t), parts[5]); err != nil || res.Outcome != fsm.Aborted {
				t.Fatalf("%+v, %v", res, err)
			}
			break
		}
		last = r.ApplyEncodedAsync(p)
	}
	for _, p := range parts {
		last = r.ApplyEncodedAsync(p)
	}
	if res, err := last.Wait(testContext(t)); err != nil || res.Outcome != fsm.Applied || version(r) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
}

func TestBeforeLevelTwoACommandTravelsWhole(t *testing.T) {
	r, err := OpenMemory("a", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, r) })
	lead(t, r)
	found(t, r)
	before := r.LastIndex()
	mustApply(t, r, commit(0, 2*fsm.MaxEntry))
	if n := r.LastIndex() - before; n != 1 {
		t.Fatalf("%d entries", n)
	}
	if _, err := r.ApplyEncoded(testContext(t), make([]byte, maxWhole+1)); !errors.Is(err, fsm.ErrTooLarge) {
		t.Fatal(err)
	}
}

// TestATransferThatLosesItsLeaderIsSentAgain shuts the leader down between two
// parts: the successor aborts the transfer, and the same bytes are applied once.
func TestATransferThatLosesItsLeaderIsSentAgain(t *testing.T) {
	p := voters(t, found2, func(*peers, string) Config { return Config{ClusterID: "c"} })
	res, leader := applyAnywhere(t, p.all, commit(0, largeState))
	if res.Outcome != fsm.Applied && res.Outcome != fsm.AlreadyApplied {
		t.Fatalf("%+v", res)
	}
	rest := slices.DeleteFunc(slices.Clone(p.all), func(r *Replica) bool { return r == leader })

	changed, before := leader.Changed(), leader.LastIndex()
	answer := make(chan error, 1)
	go func() {
		_, err := leader.ApplyAsync(commit(1, largeState)).Wait(testContext(t))
		answer <- err
	}()
	select {
	case <-changed: // the first part is in
	case err := <-answer:
		t.Skip("leadership moved before the transfer began:", err)
	}
	stop(t, leader)
	err := <-answer
	if err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if leader.LastIndex() == before {
		t.Fatal("the fault came before the transfer")
	}
	res, next := applyAnywhere(t, rest, commit(1, largeState))
	if res.Outcome != fsm.Applied && res.Outcome != fsm.AlreadyApplied { // the latter where applyAnywhere asked twice
		t.Fatalf("after %v: %+v", err, res)
	}
	if res, next = applyAnywhere(t, rest, commit(2, largeState)); res.Outcome != fsm.Applied && res.Outcome != fsm.AlreadyApplied {
		t.Fatalf("%+v", res)
	}
	var index uint64
	next.Read(func(s *fsm.State) { index = s.Index() })
	for _, r := range rest {
		until(t, r, "the last commit", func(s *fsm.State) bool { return s.Index() >= index })
		if version(r) != 3 || chain(r) != chain(next) {
			t.Fatalf("%s is at version %d, chain equal: %v", r.ID(), version(r), chain(r) == chain(next))
		}
	}
}

// applyAnywhere sends a command to the leader, whoever that is, until one answers.
func applyAnywhere(t *testing.T, all []*Replica, cmd any) (fsm.Result, *Replica) {
	t.Helper()
	for {
		r := lead(t, all...)
		res, err := r.Apply(testContext(t), cmd)
		if err == nil {
			return res, r
		}
		if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNotLeader) {
			t.Fatal(err)
		}
		t.Log(r.ID(), err)
	}
}
