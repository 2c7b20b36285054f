package paramserver

import (
	"cmp"
	"slices"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// maxBest is how many of the best distinct objects a learner remembers; the
// replicated list has a larger cap of its own.
const maxBest = 100

// bestKeeper finds candidates for the replicated list of best objects: those
// that enter this learner's own list of the n best distinct ones.
type bestKeeper struct {
	n     int
	list  []fsm.Object // falling log-reward, then text
	fresh []fsm.Object
}

func newBestKeeper(n int) *bestKeeper { return &bestKeeper{n: n} }

// wants says cheaply whether an object of that log-reward could enter.
func (b *bestKeeper) wants(logReward float64) bool {
	return len(b.list) < b.n || logReward > b.list[len(b.list)-1].LogReward
}

func (b *bestKeeper) add(o fsm.Object) {
	at, found := slices.BinarySearchFunc(b.list, o, func(a, b fsm.Object) int {
		return cmp.Or(cmp.Compare(b.LogReward, a.LogReward), cmp.Compare(a.Text, b.Text))
	})
	if found {
		return
	}
	b.list = slices.Insert(b.list, at, o)
	if len(b.list) > b.n {
		b.list = b.list[:b.n]
	}
	b.fresh = append(b.fresh, o)
}

// take returns what entered since the last call.
func (b *bestKeeper) take() []fsm.Object {
	out := b.fresh
	b.fresh = nil
	return out
}
