package paramserver_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// TestBiasAgreesWithTheMarks: what is counted by worker, region and log-reward is
// what the marks say of the sessions, and travels with the state.
func TestBiasAgreesWithTheMarks(t *testing.T) {
	for _, onStale := range []string{"drop", "downweight"} {
		u := newUpdater(t, smallSpec())
		workers := map[string]string{"s1": "near", "s2": "far", "s3": "far"}
		asked := 0
		u.TrackBias(func(session string) string { asked++; return workers[session] })
		a := paramserver.NewAdmission(1000, 16, paramserver.Bounds{MaxLag: 2, OnStale: onStale})
		a.OnStale = u.Dropped
		roller := newRoller(t, u.Spec)
		seq := map[string]uint64{}
		for session := range workers {
			a.Open(session, 0)
		}
		give := func(session string, version uint64) {
			fresh, err := roller.SampleN(16, u.Params(), version, seq[session]+1, nil)
			if err != nil {
				t.Fatal(err)
			}
			seq[session] += 16
			if err := a.Offer(session, fresh); err != nil {
				t.Fatal(err)
			}
		}
		total := fsm.Mark{}
		for v := range uint64(12) {
			give("s1", v)
			if v >= 4 {
				give("s2", v-4) // twice the bound
				give("s3", v)
			}
			for {
				batch := a.Take(16, v, time.Time{}, nil)
				if len(batch) == 0 {
					break
				}
				mustStep(t, u, batch)
			}
			for _, m := range a.Marks() {
				total.Admitted += m.Admitted
				total.Stale += m.Stale
			}
		}
		rep := u.Bias().Report()
		if rep.Admitted != total.Admitted || rep.Stale != total.Stale || asked != 3 {
			t.Errorf("%s: %+v, the marks say %d and %d; asked %d times for a worker", onStale, rep.BiasCounts, total.Admitted, total.Stale, asked)
		}
		if onStale == "drop" && (rep.Stale == 0 || rep.Downweighted != 0) || onStale == "downweight" && (rep.Stale != 0 || rep.Downweighted == 0 || rep.Weight >= float64(rep.Admitted)) {
			t.Errorf("%s: %+v", onStale, rep.BiasCounts)
		}
		sums := func(rows []runs.BiasRow) (n uint64) {
			for _, r := range rows {
				n += r.Admitted + r.Stale
			}
			return n
		}
		all := total.Admitted + total.Stale
		if sums(rep.Workers) != all || sums(rep.Regions) != all || sums(rep.Bins) != all || len(rep.Workers) != 2 || len(rep.Regions) != 4 {
			t.Errorf("%s: workers %+v, regions %+v, bins %+v; want %d in each", onStale, rep.Workers, rep.Regions, rep.Bins, all)
		}
		if !(rep.WorkersTV > 0) || math.IsNaN(float64(rep.MeanShift)) {
			t.Errorf("%s: TV %v over workers, shift %v", onStale, rep.WorkersTV, rep.MeanShift)
		}
		params, private, err := u.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		read, err := paramserver.BiasOf(private)
		if err != nil || read.Total != u.Bias().Total {
			t.Errorf("%s: read back %+v, %v", onStale, read, err)
		}
		v := newUpdater(t, u.Spec)
		if err := v.Restore(u.Version(), params, private); err != nil || v.Bias() == nil || v.Bias().Total != u.Bias().Total {
			t.Errorf("%s: %v, %+v", onStale, err, v.Bias())
		}
		u.Dropped(&wire.Trajectory{Session: "s9", Actions: []int32{99}})
		if rep := u.Bias().Report(); rep.Stale != total.Stale+1 || len(rep.Regions) != 5 || len(rep.Workers) != 3 {
			t.Errorf("%s: nonsense from a stranger: %+v", onStale, rep)
		}
	}
	u := newUpdater(t, smallSpec())
	_, private, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := paramserver.BiasOf(private); !errors.Is(err, paramserver.ErrNoBias) {
		t.Errorf("of a job without bounds: %v", err)
	}
}
