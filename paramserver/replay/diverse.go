package replay

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
)

// diverse keeps the best objects of which no two are nearer than a distance, and
// draws uniformly from them. An object that is too near to kept ones replaces
// them all if its reward is above that of each, and is not kept otherwise. When
// there are more than topK, or their bytes are beyond the bound, the one of the
// lowest reward goes; of equal rewards, the one that came last.
//
// The distance of two objects is 1 − |A∩B| / max(|A|, |B|) between their sets of
// active features: the share of the features in which they differ.
type diverse struct {
	limit    int64
	topK     int
	distance float64

	kept     []Item    // best first
	features [][]int32 // of the kept
	names    names
	data     int64 // heap bytes of texts and features
}

func newDiverse(limit int64, topK int, distance float64) *diverse {
	return &diverse{limit: limit, topK: max(topK, 1), distance: distance}
}

const keptBytes = itemBytes + 24 // an item and the header of its features

func (b *diverse) Len() int     { return len(b.kept) }
func (b *diverse) Limit() int64 { return b.limit }
func (b *diverse) Bytes() int64 { return int64(cap(b.kept))*keptBytes + b.data + b.names.bytes }

func dataBytes(text string, features []int32) int64 {
	return heapBytes(len(text)) + heapBytes(4*len(features))
}

func bestFirst(x, y Item) int {
	return cmp.Or(cmp.Compare(y.LogReward, x.LogReward), cmp.Compare(x.Insert, y.Insert))
}

// Insert implements Buffer. It takes time linear in the number kept, unless the
// buffer is full and the object no better than the worst.
func (b *diverse) Insert(item Item, features []int32) error {
	if err := check(&item); err != nil {
		return err
	}
	if n := len(b.kept); n == b.topK && item.LogReward <= b.kept[n-1].LogReward {
		return nil
	}
	need := dataBytes(item.Text, features)
	if keptBytes+need+heapBytes(len(item.Worker))+nameBytes > b.limit {
		return nil
	}
	for i := range b.kept {
		near := b.kept[i].Text == item.Text || Distance(b.features[i], features) < b.distance
		if near && b.kept[i].LogReward >= item.LogReward {
			return nil
		}
	}
	for i := len(b.kept) - 1; i >= 0; i-- { // all that are near are worse
		if b.kept[i].LogReward >= item.LogReward {
			break
		}
		if b.kept[i].Text == item.Text || Distance(b.features[i], features) < b.distance {
			b.remove(i)
		}
	}
	for !b.fits(need + b.names.price(item.Worker)) {
		worst := len(b.kept) - 1
		if worst < 0 {
			b.kept, b.features = nil, nil // tables made for many small ones
			continue
		}
		if b.kept[worst].LogReward >= item.LogReward {
			return nil // it is the worst itself
		}
		b.remove(worst)
	}
	item.Text, item.Worker = strings.Clone(item.Text), b.names.take(item.Worker)
	b.data += need
	at, _ := slices.BinarySearchFunc(b.kept, item, bestFirst)
	b.kept = slices.Insert(b.kept, at, item)
	b.features = slices.Insert(b.features, at, slices.Clone(features))
	return nil
}

// fits says whether one more with so many bytes of its own has room, and makes
// its slot.
func (b *diverse) fits(need int64) bool {
	if len(b.kept) >= b.topK {
		return false
	}
	if len(b.kept) < cap(b.kept) {
		return b.Bytes()+need <= b.limit
	}
	for _, n := range larger(cap(b.kept)) {
		n = min(n, b.topK)
		if n > len(b.kept) && int64(n)*keptBytes+b.data+b.names.bytes+need <= b.limit {
			b.resize(n)
			return true
		}
	}
	return false
}

func (b *diverse) resize(n int) {
	b.kept = append(make([]Item, 0, n), b.kept...)
	b.features = append(make([][]int32, 0, n), b.features...)
}

func (b *diverse) remove(i int) {
	b.data -= dataBytes(b.kept[i].Text, b.features[i])
	b.names.drop(b.kept[i].Worker)
	b.kept = slices.Delete(b.kept, i, i+1)
	b.features = slices.Delete(b.features, i, i+1)
}

// Draw implements Buffer.
func (b *diverse) Draw(r *rand.Rand, n int, dst []Item) []Item {
	if len(b.kept) == 0 {
		return dst
	}
	for range n {
		dst = append(dst, b.kept[r.IntN(len(b.kept))])
	}
	return dst
}

// Items implements Buffer.
func (b *diverse) Items() []Item { return byInsert(b.kept) }

// Distance is 1 − |A∩B| / max(|A|, |B|) of two ascending lists of features, in
// [0, 1]; 0 of two empty ones.
func Distance(x, y []int32) float64 {
	most := max(len(x), len(y))
	if most == 0 {
		return 0
	}
	common, j := 0, 0
	for _, f := range x {
		for j < len(y) && y[j] < f {
			j++
		}
		if j < len(y) && y[j] == f {
			common++
		}
	}
	return 1 - float64(common)/float64(most)
}
