package replay

import (
	"bytes"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/driftmesh/driftmesh/internal/shape"
)

// maxDepth is that of an encoding: its fields, items, features and their numbers.
const maxDepth = 4

// stateFormat is bumped when the meaning of an encoding changes.
const stateFormat = 1

// contents is what the encoding of every kind holds. The capacity is part of it:
// what is evicted next depends on it.
type contents struct {
	Format    int      `msgpack:"f"`
	Capacity  int      `msgpack:"c"`
	Head      int      `msgpack:"h,omitempty"` // ring: slot of the oldest
	Threshold uint64   `msgpack:"t,omitempty"` // reservoir
	Workers   []string `msgpack:"w"`
	Items     []record `msgpack:"i"` // in the order of the buffer's own table
}

type record struct {
	_msgpack  struct{} `msgpack:",as_array"`
	Text      string
	LogReward float64
	Version   uint64
	Worker    int
	Insert    uint64
	Features  []int32 // diverse
}

func encode(c contents, items []Item, features [][]int32) ([]byte, error) {
	c.Format = stateFormat
	c.Items = make([]record, len(items))
	number := map[string]int{}
	for i, it := range items {
		w, known := number[it.Worker]
		if !known {
			w = len(c.Workers)
			number[it.Worker] = w
			c.Workers = append(c.Workers, it.Worker)
		}
		c.Items[i] = record{Text: it.Text, LogReward: it.LogReward, Version: it.Version, Worker: w, Insert: it.Insert}
		if features != nil {
			c.Items[i].Features = features[i]
		}
	}
	data, err := msgpack.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return data, nil
}

// decode reads an encoding of a buffer bounded by limit bytes, whose slots take
// at least slot bytes. Nothing larger than the data is allocated.
func decode(data []byte, limit, slot int64) (c contents, items []Item, err error) {
	if err := shape.Check(data, maxDepth); err != nil {
		return c, nil, fmt.Errorf("%w: %v", ErrState, err)
	}
	dec := msgpack.NewDecoder(bytes.NewReader(data))
	dec.UsePreallocateValues(false)
	if err := dec.Decode(&c); err != nil {
		return c, nil, fmt.Errorf("%w: %v", ErrState, err)
	}
	switch {
	case c.Format != stateFormat:
		return c, nil, fmt.Errorf("%w: format %d, this build writes %d", ErrState, c.Format, stateFormat)
	case c.Capacity < len(c.Items) || c.Capacity < 0 || int64(c.Capacity) > limit/slot:
		return c, nil, fmt.Errorf("%w: %d items in %d slots of a bound of %d bytes", ErrState, len(c.Items), c.Capacity, limit)
	case c.Head < 0 || c.Head > 0 && c.Head >= c.Capacity:
		return c, nil, fmt.Errorf("%w: head %d of %d slots", ErrState, c.Head, c.Capacity)
	}
	items = make([]Item, len(c.Items))
	for i, r := range c.Items {
		if r.Worker < 0 || r.Worker >= len(c.Workers) {
			return c, nil, fmt.Errorf("%w: worker %d of %d", ErrState, r.Worker, len(c.Workers))
		}
		items[i] = Item{Text: r.Text, LogReward: r.LogReward, Version: r.Version, Worker: c.Workers[r.Worker], Insert: r.Insert}
		if err := check(&items[i]); err != nil {
			return c, nil, fmt.Errorf("%w: %w", ErrState, err)
		}
	}
	return c, items, nil
}

func tooLarge(have, limit int64) error {
	return fmt.Errorf("%w: %d bytes, the bound is %d", ErrState, have, limit)
}

// MarshalBinary implements Buffer.
func (b *ring) MarshalBinary() ([]byte, error) {
	return encode(contents{Capacity: len(b.item), Head: b.head}, b.Items(), nil)
}

// Restore implements Buffer.
func (b *ring) Restore(data []byte) error {
	c, items, err := decode(data, b.limit, itemBytes)
	if err != nil {
		return err
	}
	n := newRing(b.limit, b.laws)
	n.item, n.head, n.count = make([]Item, c.Capacity), c.Head, len(items)
	if n.laws.distinct() {
		n.weight.reset(c.Capacity)
	}
	for i, it := range items {
		if _, twice := n.where[it.Text]; twice {
			return fmt.Errorf("%w: %.80q twice", ErrState, it.Text)
		}
		slot := (n.head + i) % c.Capacity
		it.Worker = n.names.take(it.Worker)
		n.item[slot] = it
		n.texts += heapBytes(len(it.Text))
		n.enter(slot)
	}
	if n.Bytes() > n.limit {
		return tooLarge(n.Bytes(), n.limit)
	}
	*b = *n
	return nil
}

// MarshalBinary implements Buffer.
func (b *reservoir) MarshalBinary() ([]byte, error) {
	return encode(contents{Capacity: cap(b.item), Threshold: b.threshold}, b.item, nil)
}

// Restore implements Buffer.
func (b *reservoir) Restore(data []byte) error {
	c, items, err := decode(data, b.limit, rankedBytes)
	if err != nil {
		return err
	}
	n := newReservoir(b.limit, b.seed)
	n.threshold = c.Threshold
	n.resize(c.Capacity)
	for i, it := range items {
		p := n.rank(it.Insert)
		if p >= n.threshold && n.threshold != math.MaxUint64 || i > 0 && n.priority[(i-1)/2] < p {
			return fmt.Errorf("%w: insertion %d is not where its priority puts it", ErrState, it.Insert)
		}
		it.Worker = n.names.take(it.Worker)
		n.item, n.priority = append(n.item, it), append(n.priority, p)
		n.texts += heapBytes(len(it.Text))
	}
	if n.Bytes() > n.limit {
		return tooLarge(n.Bytes(), n.limit)
	}
	*b = *n
	return nil
}

// MarshalBinary implements Buffer.
func (b *diverse) MarshalBinary() ([]byte, error) {
	return encode(contents{Capacity: cap(b.kept)}, b.kept, b.features)
}

// Restore implements Buffer.
func (b *diverse) Restore(data []byte) error {
	c, items, err := decode(data, b.limit, keptBytes)
	if err != nil {
		return err
	}
	if len(items) > b.topK {
		return fmt.Errorf("%w: %d objects, at most %d are kept", ErrState, len(items), b.topK)
	}
	n := newDiverse(b.limit, b.topK, b.distance)
	n.resize(c.Capacity)
	for i, it := range items {
		if i > 0 && bestFirst(items[i-1], it) >= 0 {
			return fmt.Errorf("%w: the objects are not sorted by reward", ErrState)
		}
		it.Worker = n.names.take(it.Worker)
		n.kept, n.features = append(n.kept, it), append(n.features, c.Items[i].Features)
		n.data += dataBytes(it.Text, c.Items[i].Features)
	}
	if n.Bytes() > n.limit {
		return tooLarge(n.Bytes(), n.limit)
	}
	*b = *n
	return nil
}
