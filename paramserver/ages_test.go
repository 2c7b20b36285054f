package paramserver

import (
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/internal/runs"
)

func TestAgesFollowTheStampsOfCommits(t *testing.T) {
	a := newAges()
	start := time.Unix(1000, 0)
	a.committed(0, start.UnixNano())
	a.committed(10, start.Add(time.Second).UnixNano())
	now := start.Add(3 * time.Second)
	a.used(0, now)
	a.used(10, now)
	a.used(10, now)
	a.used(7, now) // never committed: left out
	if got, want := a.stats(), (runs.SecondsStats{Min: 2, Median: 2, P95: 2.9, Max: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := a.stats(); got != (runs.SecondsStats{}) {
		t.Errorf("a second call gives %+v, want nothing", got)
	}
}

func TestAgesAreBounded(t *testing.T) {
	a := newAges()
	for v := range uint64(3 * maxStamps) {
		a.committed(v, int64(v))
	}
	if len(a.stamps) != maxStamps || len(a.order) != maxStamps {
		t.Errorf("%d stamps and %d versions are kept, want %d", len(a.stamps), len(a.order), maxStamps)
	}
}
