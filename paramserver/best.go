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
//
// An object that fell off the list cannot come back, because the least
// log-reward on it only rises; so known need not forget.
type bestKeeper struct {
	n       int
	list    []fsm.Object        // falling log-reward, then text
	known   map[string]struct{} // keys of all that ever entered
	entered []fsm.Object        // since the last take
}

func newBestKeeper(n int) *bestKeeper { return &bestKeeper{n: n, known: map[string]struct{}{}} }

// wants says cheaply whether an object of that log-reward could enter.
func (b *bestKeeper) wants(logReward float64) bool {
	return len(b.list) < b.n || logReward > b.list[len(b.list)-1].LogReward
}

// fresh says whether an object, by the environment's key of it, is new here.
func (b *bestKeeper) fresh(key []byte) bool {
	_, known := b.known[string(key)]
	return !known
}

// add enters a fresh object that wants let through.
func (b *bestKeeper) add(key []byte, o fsm.Object) {
	b.known[string(key)] = struct{}{}
	at, _ := slices.BinarySearchFunc(b.list, o, func(a, b fsm.Object) int {
		return cmp.Or(cmp.Compare(b.LogReward, a.LogReward), cmp.Compare(a.Text, b.Text))
	})
	b.list = slices.Insert(b.list, at, o)
	if len(b.list) > b.n {
		b.list = b.list[:b.n]
	}
	b.entered = append(b.entered, o)
}

// take returns what entered since the last call.
func (b *bestKeeper) take() []fsm.Object {
	out := b.entered
	b.entered = nil
	return out
}
