package paramserver

import (
	"slices"
	"time"

	"github.com/driftmesh/driftmesh/internal/runs"
)

// ages measures lag in seconds: from the Commit of the version that a
// trajectory was sampled with, by the stamp in that Commit, to its use. Workers'
// clocks play no part in it.
type ages struct {
	stamps  map[uint64]int64 // Unix nanoseconds by committed version
	order   []uint64         // its keys, oldest first
	seconds sample           // of the trajectories since the last call of stats
	observe func(float64)    // sees every age too; nil for nobody
}

// maxStamps is how many committed versions are remembered. A trajectory that is
// older is left out of the statistics.
const maxStamps = 4096

func newAges() *ages { return &ages{stamps: map[uint64]int64{}} }

// committed notes when a version was committed.
func (a *ages) committed(version uint64, stamp int64) {
	if _, known := a.stamps[version]; !known {
		a.order = append(a.order, version)
	}
	a.stamps[version] = stamp
	if len(a.order) > maxStamps {
		delete(a.stamps, a.order[0])
		a.order = a.order[1:]
	}
}

// least is the least age, at now, of a trajectory that was sampled with version:
// the time since its commit, or since the first remembered one after it. Nothing
// is called older than it is.
func (a *ages) least(version uint64, now time.Time) time.Duration {
	stamp, ok := a.stamps[version]
	if !ok {
		at, _ := slices.BinarySearch(a.order, version)
		if at == len(a.order) {
			return 0
		}
		stamp = a.stamps[a.order[at]]
	}
	return max(0, time.Duration(now.UnixNano()-stamp))
}

// used counts one trajectory of that version, trained on now.
func (a *ages) used(version uint64, now time.Time) {
	if stamp, ok := a.stamps[version]; ok {
		age := time.Duration(now.UnixNano() - stamp).Seconds()
		a.seconds.add(age)
		if a.observe != nil {
			a.observe(age)
		}
	}
}

// stats summarises what was used since the last call.
func (a *ages) stats() runs.SecondsStats {
	if a.seconds.seen == 0 {
		return runs.SecondsStats{}
	}
	q := a.seconds.quantiles(0, 0.5, 0.95, 1)
	a.seconds.reset()
	return runs.SecondsStats{Min: runs.Float(q[0]), Median: runs.Float(q[1]), P95: runs.Float(q[2]), Max: runs.Float(q[3])}
}
