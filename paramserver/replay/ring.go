package replay

import (
	"math"
	"math/rand/v2"
	"strings"
)

// ring keeps the newest items and draws by one law or by a mixture of laws. It
// is the buffer of the kinds fifo, reward and mixture.
//
// fifo keeps every insertion. The others keep distinct objects, in the order of
// their discovery: an object that is kept already is not inserted again, so the
// probability of an object does not depend on how often it was found.
type ring struct {
	limit int64
	laws  laws

	item  []Item // circular: all of its capacity is in use or free
	head  int    // the oldest
	count int
	names names
	texts int64 // heap bytes of the texts

	where  map[string]int32 // text → slot; nil for fifo
	weight tree             // by slot; for laws with reward
}

// laws are the shares of the draws, which sum to one.
type laws struct {
	uniform  float64 // every item alike
	recent   float64 // linear in recency: of n items the one of rank k from the newest has (2(n−k)+1)/n²
	reward   float64 // R^exponent
	exponent float64
}

func (l *laws) distinct() bool { return l.uniform == 0 }

func newRing(limit int64, l laws) *ring {
	b := &ring{limit: limit, laws: l}
	b.clear()
	return b
}

func (b *ring) clear() {
	b.item, b.head, b.count, b.names, b.texts = nil, 0, 0, names{}, 0
	if b.laws.distinct() {
		b.where = map[string]int32{}
	}
	b.weight = tree{}
}

// slotBytes is the memory of the tables of n slots.
func (b *ring) slotBytes(n int) int64 {
	if n == 0 {
		return 0
	}
	size := int64(n) * itemBytes
	if b.laws.distinct() {
		size += int64(n)*setBytes + treeBytes(n)
	}
	return size
}

func (b *ring) Len() int     { return b.count }
func (b *ring) Limit() int64 { return b.limit }
func (b *ring) Bytes() int64 { return b.slotBytes(len(b.item)) + b.texts + b.names.bytes }

// Insert implements Buffer. The oldest go until the new one fits; one that is
// too large even for the empty buffer is not kept.
func (b *ring) Insert(item Item, _ []int32) error {
	if err := check(&item); err != nil {
		return err
	}
	if _, kept := b.where[item.Text]; kept {
		return nil
	}
	need := heapBytes(len(item.Text))
	if b.slotBytes(1)+need+heapBytes(len(item.Worker))+nameBytes > b.limit {
		return nil
	}
	if b.count == len(b.item) && !b.grow(need+b.names.price(item.Worker)) && b.count > 0 {
		b.evict()
	}
	for b.Bytes()+need+b.names.price(item.Worker) > b.limit && b.count > 0 {
		b.evict()
	}
	if b.Bytes()+need+b.names.price(item.Worker) > b.limit || len(b.item) == 0 {
		b.clear() // tables made for many small ones leave no room for a huge one
		b.resize(1)
	}
	at := (b.head + b.count) % len(b.item)
	item.Text, item.Worker = strings.Clone(item.Text), b.names.take(item.Worker)
	b.item[at] = item
	b.count++
	b.texts += need
	b.enter(at)
	return nil
}

// grow makes room for one more item that needs so many bytes itself; false
// when the bound does not allow it.
func (b *ring) grow(need int64) bool {
	for _, n := range larger(len(b.item)) {
		if b.slotBytes(n)+b.texts+b.names.bytes+need <= b.limit {
			b.resize(n)
			return true
		}
	}
	return false
}

// resize moves everything to a table of n slots, oldest first.
func (b *ring) resize(n int) {
	table := make([]Item, n)
	for i := range b.count {
		table[i] = b.item[(b.head+i)%len(b.item)]
	}
	b.item, b.head = table, 0
	if b.laws.distinct() {
		b.weight.reset(n)
		for i := range b.count {
			b.enter(i)
		}
	}
}

// enter notes the item of a slot in the tables of distinct objects.
func (b *ring) enter(slot int) {
	if !b.laws.distinct() {
		return
	}
	b.where[b.item[slot].Text] = int32(slot)
	b.weight.set(slot, logWeight(b.laws.exponent, b.item[slot].LogReward))
}

// evict forgets the oldest.
func (b *ring) evict() {
	gone := &b.item[b.head]
	b.texts -= heapBytes(len(gone.Text))
	b.names.drop(gone.Worker)
	if b.laws.distinct() {
		delete(b.where, gone.Text)
		b.weight.set(b.head, math.Inf(-1))
	}
	*gone = Item{}
	b.head = (b.head + 1) % len(b.item)
	b.count--
}

// Draw implements Buffer.
func (b *ring) Draw(r *rand.Rand, n int, dst []Item) []Item {
	if b.count == 0 {
		return dst
	}
	for range n {
		dst = append(dst, b.item[b.draw(r)])
	}
	return dst
}

// draw returns a slot.
func (b *ring) draw(r *rand.Rand) int {
	l := &b.laws
	rank := 0 // from the oldest
	switch {
	case l.uniform > 0:
		rank = r.IntN(b.count)
	case l.recent > 0 && (l.reward == 0 || r.Float64() < l.recent):
		// The newer of two has the linear law.
		rank = max(r.IntN(b.count), r.IntN(b.count))
	default:
		return b.weight.draw(r)
	}
	return (b.head + rank) % len(b.item)
}

// Items implements Buffer.
func (b *ring) Items() []Item {
	out := make([]Item, b.count)
	for i := range out {
		out[i] = b.item[(b.head+i)%len(b.item)]
	}
	return out
}
