package replay

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/rng"
)

// reservoir keeps a uniform sample of all insertions and draws uniformly from
// it: the buffer of the kind uniform. Every insertion has a random priority that
// follows from the seed and its number; kept are those below a threshold, which
// only falls: to the largest priority kept whenever the bound is reached. So at
// any time every insertion of the past is in with the same probability, whatever
// its size and age.
type reservoir struct {
	limit     int64
	seed      uint64
	threshold uint64   // priorities from here on are not kept
	item      []Item   // a heap: the largest priority first
	priority  []uint64 // of the items
	names     names
	texts     int64
}

func newReservoir(limit int64, seed uint64) *reservoir {
	return &reservoir{limit: limit, seed: seed, threshold: math.MaxUint64}
}

const rankedBytes = itemBytes + 8

func (b *reservoir) Len() int     { return len(b.item) }
func (b *reservoir) Limit() int64 { return b.limit }
func (b *reservoir) Bytes() int64 { return int64(cap(b.item))*rankedBytes + b.texts + b.names.bytes }

// Insert implements Buffer.
func (b *reservoir) Insert(item Item, _ []int32) error {
	if err := check(&item); err != nil {
		return err
	}
	p := b.rank(item.Insert)
	if p >= b.threshold {
		return nil
	}
	need := heapBytes(len(item.Text))
	if rankedBytes+need+heapBytes(len(item.Worker))+nameBytes > b.limit {
		return nil
	}
	for {
		if cost := need + b.names.price(item.Worker); len(b.item) < cap(b.item) && b.Bytes()+cost <= b.limit || b.grow(cost) {
			break
		}
		if len(b.item) == 0 {
			b.item, b.priority = nil, nil // tables made for many small ones
			continue
		}
		if b.priority[0] <= p {
			b.threshold = p // it is the next to go itself
			return nil
		}
		b.threshold = b.priority[0]
		b.pop()
	}
	item.Text, item.Worker = strings.Clone(item.Text), b.names.take(item.Worker)
	b.texts += need
	b.item, b.priority = append(b.item, item), append(b.priority, p)
	b.up(len(b.item) - 1)
	return nil
}

// rank is the priority of an insertion.
func (b *reservoir) rank(insert uint64) uint64 {
	return rng.NewSource(b.seed, rng.Replay, insert).Uint64()
}

// grow makes room for one more item where there is none.
func (b *reservoir) grow(need int64) bool {
	if len(b.item) < cap(b.item) {
		return false // it is bytes that lack, not slots
	}
	for _, n := range larger(cap(b.item)) {
		if int64(n)*rankedBytes+b.texts+b.names.bytes+need <= b.limit {
			b.resize(n)
			return true
		}
	}
	return false
}

func (b *reservoir) resize(n int) {
	b.item = append(make([]Item, 0, n), b.item...)
	b.priority = append(make([]uint64, 0, n), b.priority...)
}

// pop forgets the item of the largest priority.
func (b *reservoir) pop() {
	b.texts -= heapBytes(len(b.item[0].Text))
	b.names.drop(b.item[0].Worker)
	last := len(b.item) - 1
	b.swap(0, last)
	b.item[last] = Item{}
	b.item, b.priority = b.item[:last], b.priority[:last]
	b.down(0)
}

func (b *reservoir) swap(i, j int) {
	b.item[i], b.item[j] = b.item[j], b.item[i]
	b.priority[i], b.priority[j] = b.priority[j], b.priority[i]
}

func (b *reservoir) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if b.priority[parent] >= b.priority[i] {
			return
		}
		b.swap(i, parent)
		i = parent
	}
}

func (b *reservoir) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(b.item) {
			return
		}
		if child+1 < len(b.item) && b.priority[child+1] > b.priority[child] {
			child++
		}
		if b.priority[i] >= b.priority[child] {
			return
		}
		b.swap(i, child)
		i = child
	}
}

// Draw implements Buffer.
func (b *reservoir) Draw(r *rand.Rand, n int, dst []Item) []Item {
	if len(b.item) == 0 {
		return dst
	}
	for range n {
		dst = append(dst, b.item[r.IntN(len(b.item))])
	}
	return dst
}

// Items implements Buffer.
func (b *reservoir) Items() []Item { return byInsert(b.item) }

func byInsert(items []Item) []Item {
	out := slices.Clone(items)
	slices.SortFunc(out, func(x, y Item) int { return cmp.Compare(x.Insert, y.Insert) })
	return out
}
