package replica

import (
	"bytes"
	"testing"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

func largeEntry(t *testing.T, version uint64) []byte {
	t.Helper()
	data, err := fsm.Encode(commit(version, leastAhead))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestWhatIsLookedAtAheadIsWhatIsApplied: entries are told apart by their place in
// memory, whatever their bytes and wherever in the log they are.
func TestWhatIsLookedAtAheadIsWhatIsApplied(t *testing.T) {
	a := newAhead()
	one, other := largeEntry(t, 1), largeEntry(t, 2)
	same, small := bytes.Clone(one), []byte("small")
	for _, data := range [][]byte{one, other, one, same, small} { // the leader notes twice
		a.note(data)
	}
	if len(a.waiting) != 3 {
		t.Errorf("%d entries wait, want 3", len(a.waiting))
	}
	for _, data := range [][]byte{same, small, other, one, one, bytes.Clone(other)} {
		if !a.take(data).Of(data) {
			t.Error("not the entry that was asked for")
		}
	}
	if len(a.waiting) != 0 {
		t.Errorf("%d entries are kept for ever", len(a.waiting))
	}
}

// TestLookingAheadIsBounded: what never gets its turn, such as the entries of a leader
// that lost, gives way to what comes after it.
func TestLookingAheadIsBounded(t *testing.T) {
	a := newAhead()
	var all [][]byte
	for i := range uint64(3 * maxAhead) {
		all = append(all, largeEntry(t, i))
		a.note(all[i])
	}
	if n := len(a.waiting); n != maxAhead {
		t.Errorf("%d entries wait, want %d", n, maxAhead)
	}
	if a.at(all[0]) >= 0 || a.at(all[len(all)-1]) < 0 {
		t.Error("not the oldest gave way")
	}
	if !a.take(all[0]).Of(all[0]) {
		t.Error("not the entry that gave way")
	}
	a.forget()
	if n := len(a.waiting); n != 0 {
		t.Errorf("%d entries are kept for ever", n)
	}
}

// TestLookingAheadEnds with the replica, with or without an entry under way.
func TestLookingAheadEnds(t *testing.T) {
	for range 2 {
		a, stop, done := newAhead(), make(chan struct{}), make(chan struct{})
		go func() { // ends with stop
			defer close(done)
			a.run(stop, nil)
		}()
		data := largeEntry(t, 1)
		a.note(data)
		close(stop)
		<-done
		if !a.take(data).Of(data) {
			t.Error("not the entry that was asked for")
		}
	}
}
