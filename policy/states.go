package policy

import (
	"math/bits"

	"github.com/driftmesh/driftmesh/envs"
)

// Reset empties s and keeps its buffers.
func (s *States) Reset() {
	s.N = 0
	s.FeatOffset = append(s.FeatOffset[:0], 0)
	s.FeatIndex = s.FeatIndex[:0]
	s.ForwardMask = s.ForwardMask[:0]
	s.BackwardMask = s.BackwardMask[:0]
	s.Dense = s.Dense[:0]
}

// Append adds what a model sees of a row of an environment's states; spec is
// that environment's. The first use of a zero States must be Reset.
func (s *States) Append(spec *envs.Spec, from envs.States, row int) {
	s.FeatIndex = from.AppendFeatures(s.FeatIndex, row)
	s.FeatOffset = append(s.FeatOffset, int32(len(s.FeatIndex)))
	from.ForwardMask(row, extend(&s.ForwardMask, spec.Actions))
	from.BackwardMask(row, extend(&s.BackwardMask, spec.BackwardActions))
	if spec.Dense > 0 {
		s.Dense = from.(envs.Points).AppendDense(s.Dense, row)
	}
	s.N++
}

// extend appends n false values and returns them.
func extend(mask *[]bool, n int) []bool {
	*mask = append(*mask, make([]bool, n)...)
	return (*mask)[len(*mask)-n:]
}

// Deduper collects rows of an environment into States that hold every distinct
// state once, so that a model scores it once. It is for one goroutine, and in
// the steady state allocates nothing.
type Deduper struct {
	spec  envs.Spec
	keep  bool // keep duplicates
	dst   *States
	key   []byte
	table keyTable
}

// NewDeduper returns a Deduper for rows of env's states.
func NewDeduper(env envs.Env) *Deduper {
	return &Deduper{spec: env.Spec()}
}

// KeepDuplicates(true) turns deduplication off: every row becomes a state. The
// mathematics is the same up to rounding and the work is more, so it is for
// comparisons and for models that are not functions of the state.
func (d *Deduper) KeepDuplicates(keep bool) { d.keep = keep }

// Start empties dst and collects into it from now on.
func (d *Deduper) Start(dst *States) {
	dst.Reset()
	d.dst = dst
	d.table.reset()
}

// Add returns the index in dst of a row's state, and puts it there if it is new.
func (d *Deduper) Add(from envs.States, row int) int32 {
	if !d.keep {
		d.key = from.AppendKey(d.key[:0], row)
		if id, fresh := d.table.intern(d.key); !fresh {
			return id
		}
	}
	d.dst.Append(&d.spec, from, row)
	return int32(d.dst.N - 1)
}

// keyTable numbers distinct byte strings in the order of their arrival: open
// addressing with linear probing over keys that lie one after another in arena.
type keyTable struct {
	slots  []int32  // id + 1; 0 is empty; the length is a power of two
	hashes []uint64 // by id
	ends   []int    // key id ends at arena[ends[id]]
	arena  []byte
}

func (t *keyTable) reset() {
	clear(t.slots)
	t.hashes, t.ends, t.arena = t.hashes[:0], t.ends[:0], t.arena[:0]
}

// intern returns the number of key, and whether it is new.
func (t *keyTable) intern(key []byte) (id int32, fresh bool) {
	if 2*(len(t.ends)+1) > len(t.slots) {
		t.grow()
	}
	hash := hashKey(key)
	mask := uint64(len(t.slots) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		slot := t.slots[at]
		if slot == 0 {
			id = int32(len(t.ends))
			t.slots[at] = id + 1
			t.arena = append(t.arena, key...)
			t.hashes = append(t.hashes, hash)
			t.ends = append(t.ends, len(t.arena))
			return id, true
		}
		if id = slot - 1; t.hashes[id] == hash && string(t.key(id)) == string(key) {
			return id, false
		}
	}
}

func (t *keyTable) key(id int32) []byte {
	start := 0
	if id > 0 {
		start = t.ends[id-1]
	}
	return t.arena[start:t.ends[id]]
}

func (t *keyTable) grow() {
	t.slots = make([]int32, max(64, 2*len(t.slots)))
	mask := uint64(len(t.slots) - 1)
	for id, hash := range t.hashes {
		at := hash & mask
		for t.slots[at] != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = int32(id) + 1
	}
}

// hashKey folds eight bytes at a time by a wide multiplication, as wyhash does.
// Keys are compared in full, so a poor hash would cost time only.
func hashKey(key []byte) uint64 {
	const a, b = 0x9e3779b97f4a7c15, 0xd1b54a32d192ed03
	h := uint64(len(key)) * a
	for len(key) > 0 {
		word := uint64(0)
		n := min(8, len(key))
		for i, c := range key[:n] {
			word |= uint64(c) << (8 * i)
		}
		hi, lo := bits.Mul64(h^word^a, b)
		h = hi ^ lo
		key = key[n:]
	}
	return h ^ h>>32
}
