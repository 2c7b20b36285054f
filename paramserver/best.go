package paramserver

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// Caps of the list of best objects that a learner keeps and that travels with
// its state; the replicated list, which outlives the job's end, has larger ones.
const (
	maxBest      = 100
	maxBestBytes = 64 << 10 // of their texts together
	maxSeen      = 1 << 14  // keys remembered
)

// bestKeeper keeps the best distinct objects that a job has trained on: those
// of the largest log-reward, ties by text. An object whose text alone is beyond
// the cap is never listed.
type bestKeeper struct {
	n    int
	list []fsm.Object // sorted by bestFirst, texts distinct
	sent []fsm.Object // list as it was when it was last taken or restored
	// seen holds the log-reward with which an object, by the environment's key
	// of it, was last held against the list: it need not be looked at again. It
	// may forget, at the price of another look.
	seen map[string]float64
}

func newBestKeeper(n int) *bestKeeper { return &bestKeeper{n: n, seen: map[string]float64{}} }

// bestFirst orders objects by falling log-reward; ties by text.
func bestFirst(a, b fsm.Object) int {
	return cmp.Or(cmp.Compare(b.LogReward, a.LogReward), cmp.Compare(a.Text, b.Text))
}

// wants says cheaply whether an object of that log-reward could enter.
func (b *bestKeeper) wants(logReward float64) bool {
	return len(b.list) < b.n || logReward >= b.list[len(b.list)-1].LogReward
}

// fresh says whether an object deserves a look at its text.
func (b *bestKeeper) fresh(key []byte, logReward float64) bool {
	before, seen := b.seen[string(key)]
	return !seen || logReward > before
}

// add enters an object if it is among the best. Of two with the same text the
// better one stays.
func (b *bestKeeper) add(key []byte, o fsm.Object) {
	if len(b.seen) >= maxSeen {
		clear(b.seen)
	}
	b.seen[string(key)] = o.LogReward
	if len(o.Text) > maxBestBytes {
		return
	}
	same := slices.IndexFunc(b.list, func(l fsm.Object) bool { return l.Text == o.Text })
	if same >= 0 {
		if b.list[same].LogReward >= o.LogReward {
			return
		}
		b.list = slices.Delete(b.list, same, same+1)
	}
	at, _ := slices.BinarySearchFunc(b.list, o, bestFirst)
	b.list = withinCaps(slices.Insert(b.list, at, o), b.n)
}

// withinCaps cuts off what comes after n objects or maxBestBytes of text.
func withinCaps(list []fsm.Object, n int) []fsm.Object {
	list = list[:min(n, len(list))]
	size := 0
	for i, o := range list {
		if size += len(o.Text); size > maxBestBytes {
			return list[:i]
		}
	}
	return list
}

// take returns what of the list was not there at the last call.
func (b *bestKeeper) take() []fsm.Object {
	var out []fsm.Object
	for _, o := range b.list {
		if _, sent := slices.BinarySearchFunc(b.sent, o, bestFirst); !sent {
			out = append(out, o)
		}
	}
	if len(out) > 0 {
		b.sent = append(b.sent[:0], b.list...)
	}
	return out
}

// restore makes a sorted list of distinct objects, as far as the caps allow,
// the list; nothing of it is left to take.
func (b *bestKeeper) restore(sorted []fsm.Object) {
	b.list = slices.Clone(withinCaps(sorted, b.n))
	b.sent = slices.Clone(b.list)
	clear(b.seen)
}

// checkBest verifies a list that was written by a bestKeeper.
func checkBest(list []fsm.Object) error {
	if len(withinCaps(list, maxBest)) != len(list) {
		return fmt.Errorf("%d best objects or their texts are beyond the caps", len(list))
	}
	texts := make(map[string]struct{}, len(list))
	for i, o := range list {
		texts[o.Text] = struct{}{}
		switch {
		case math.IsNaN(o.LogReward) || math.IsInf(o.LogReward, 0):
			return fmt.Errorf("best object %.100q has log-reward %v", o.Text, o.LogReward)
		case o.Text == "" || len(texts) <= i || i > 0 && bestFirst(list[i-1], o) >= 0:
			return errors.New("the best objects are not a sorted list of distinct ones")
		}
	}
	return nil
}

// SetBest makes the best of a list, sorted by falling log-reward and then by
// text, the best objects known; nothing of it is left for TakeBest. Restore
// does the same with what the state holds.
func (u *Updater) SetBest(sorted []fsm.Object) { u.best.restore(sorted) }
