package metrics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/driftmesh/driftmesh/envs"
)

// ErrModes says that bytes are no set of modes, or of another number of modes.
var ErrModes = errors.New("not a set of modes")

// Modes remembers which modes of a target have been found: sampled at least
// once while training. It survives a restart through its binary form.
type Modes struct {
	n     int
	found int
	words []uint64
	of    []int // modes of an object
}

// NewModes returns an empty set of n modes (none when n is negative).
func NewModes(n int) *Modes {
	n = max(n, 0)
	return &Modes{n: n, words: make([]uint64, (n+63)/64)}
}

// Add notes a sampled mode and says whether it was new. Numbers outside
// [0, Len), such as the −1 of an object without a mode, are ignored.
func (m *Modes) Add(mode int) bool {
	if mode < 0 || mode >= m.n || m.Has(mode) {
		return false
	}
	m.words[mode/64] |= 1 << (mode % 64)
	m.found++
	return true
}

// AddObject notes every mode that the object of a terminal row belongs to.
func (m *Modes) AddObject(env envs.Moded, s envs.States, row int) {
	m.of = envs.AppendModes(m.of[:0], env, s, row)
	for _, mode := range m.of {
		m.Add(mode)
	}
}

// Has says whether the mode was found.
func (m *Modes) Has(mode int) bool {
	return mode >= 0 && mode < m.n && m.words[mode/64]>>(mode%64)&1 == 1
}

// Found is the number of modes found.
func (m *Modes) Found() int { return m.found }

// Len is the number of modes there are.
func (m *Modes) Len() int { return m.n }

// Merge adds what other found; both must have the same number of modes.
func (m *Modes) Merge(other *Modes) error {
	if m.n != other.n {
		return fmt.Errorf("%w: %d modes merged with %d", ErrModes, m.n, other.n)
	}
	m.found = 0
	for i := range m.words {
		m.words[i] |= other.words[i]
		m.found += bits.OnesCount64(m.words[i])
	}
	return nil
}

// AppendBinary appends the number of modes (8 bytes) and one bit a mode, all
// little-endian. It never fails.
func (m *Modes) AppendBinary(dst []byte) ([]byte, error) {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(m.n))
	for _, w := range m.words {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	return dst, nil
}

// MarshalBinary returns the form that AppendBinary appends.
func (m *Modes) MarshalBinary() ([]byte, error) { return m.AppendBinary(nil) }

// UnmarshalBinary reads what MarshalBinary wrote. The number of modes must
// agree with the length of data before anything is allocated, and bits past the
// last mode must be zero; otherwise the error wraps ErrModes and m is unchanged.
func (m *Modes) UnmarshalBinary(data []byte) error {
	if len(data) < 8 || len(data)%8 != 0 {
		return fmt.Errorf("%w: %d bytes", ErrModes, len(data))
	}
	n, words := binary.LittleEndian.Uint64(data), len(data)/8-1
	if n > uint64(words)*64 || (n+63)/64 != uint64(words) {
		return fmt.Errorf("%w: %d modes in %d words", ErrModes, n, words)
	}
	out := NewModes(int(n))
	for i := range out.words {
		out.words[i] = binary.LittleEndian.Uint64(data[8+8*i:])
		out.found += bits.OnesCount64(out.words[i])
	}
	if rest := n % 64; rest != 0 && out.words[words-1]>>rest != 0 {
		return fmt.Errorf("%w: bits past the last of %d modes", ErrModes, n)
	}
	m.n, m.found, m.words = out.n, out.found, out.words
	return nil
}
