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

// TestWhatIsLookedAtAheadIsWhatIsApplied: an entry that another leader replaced
// before its turn came is not taken for the one that was stored last.
func TestWhatIsLookedAtAheadIsWhatIsApplied(t *testing.T) {
	a := newAhead()
	old, replaced := largeEntry(t, 1), largeEntry(t, 2)
	a.stored(7, old)
	if p := a.take(7, old); !p.Of(old) {
		t.Error("not the entry that was stored")
	}
	a.stored(7, old)
	a.stored(7, replaced)
	if p := a.take(7, replaced); !p.Of(replaced) {
		t.Error("not the entry that replaced it")
	}
	a.stored(8, old)
	a.stored(8, []byte("small")) // which is not noted
	small := []byte("small")
	if p := a.take(8, small); !p.Of(small) {
		t.Error("not the small entry that replaced a large one")
	}
	if clone := bytes.Clone(old); !a.take(9, clone).Of(clone) {
		t.Error("not the entry that was never stored")
	}
}

// TestLookingAheadIsBounded, and what a snapshot has overtaken is forgotten.
func TestLookingAheadIsBounded(t *testing.T) {
	a := newAhead()
	data := largeEntry(t, 1)
	for i := range uint64(3 * maxPrepared) {
		a.stored(i+1, data)
	}
	if n := len(a.waiting); n != maxPrepared {
		t.Errorf("%d entries wait, want %d", n, maxPrepared)
	}
	a.passed(10)
	if n := len(a.waiting); n != maxPrepared-10 {
		t.Errorf("%d entries wait after the 10th", n)
	}
	a.passed(1000)
	if n := len(a.waiting); n != 0 {
		t.Errorf("%d entries are kept for ever", n)
	}
}
