package paramserver

import (
	"time"

	"github.com/driftmesh/driftmesh/internal/job"
)

// Bounds say when a trajectory is stale, and what becomes of it then. A
// trajectory is stale when it is beyond either bound.
type Bounds struct {
	MaxLag  int64         // in updates; 0: no bound
	MaxAge  time.Duration // since the commit of its version; 0: no bound
	OnStale string        // admit, drop or downweight
}

// BoundsOf are the bounds of a job.
func BoundsOf(m job.Mesh) Bounds {
	return Bounds{MaxLag: m.MaxLag, MaxAge: time.Duration(m.MaxLagSeconds * float64(time.Second)), OnStale: m.OnStale}
}

// Act says whether being stale has any consequence.
func (b Bounds) Act() bool {
	return (b.MaxLag > 0 || b.MaxAge > 0) && (b.OnStale == "drop" || b.OnStale == "downweight")
}

// Weight is the weight of a trajectory of that lag, in updates, and that age:
// 1 within both bounds, and beyond one max_lag/lag or max_age/age, the smaller
// of the two.
func (b Bounds) Weight(lag int64, age time.Duration) float64 {
	w := 1.0
	if b.MaxLag > 0 && lag > b.MaxLag {
		w = float64(b.MaxLag) / float64(lag)
	}
	if b.MaxAge > 0 && age > b.MaxAge {
		w = min(w, float64(b.MaxAge)/float64(age))
	}
	return w
}
