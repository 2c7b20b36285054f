// Package twinsha hashes two byte strings at a time with SHA-256. Each round of the
// function waits for the one before, so a processor that has instructions for it is
// half idle with one string; with two it takes hardly longer than with one.
package twinsha

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"

	"github.com/driftmesh/driftmesh/internal/piecewise"
)

//go:generate go run ./gen

// Hash is a SHA-256 digest.
type Hash = [sha256.Size]byte

// Sum256 returns the SHA-256 of whole and of each of the parts.
func Sum256(whole []byte, parts ...[]byte) (Hash, []Hash) {
	sums := make([]Hash, len(parts))
	if !available {
		for i, p := range parts {
			sums[i] = piecewise.Sum256(p)
		}
		return piecewise.Sum256(whole), sums
	}
	left := begin(whole)
	for i, p := range parts {
		right := begin(p)
		left.with(right)
		sums[i] = right.end()
	}
	return left.end(), sums
}

// message is a byte string of which the first blocks are hashed.
type message struct {
	state [8]uint32
	data  []byte
	done  int // bytes
}

const (
	block = sha256.BlockSize
	// most blocks are hashed without a point at which the goroutine can be stopped;
	// see piecewise.
	most = piecewise.Size / 2 / block
)

func begin(data []byte) *message {
	return &message{state: [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}, data: data}
}

// with hashes blocks of both messages until one of them has none left.
func (m *message) with(o *message) {
	for {
		n := min((len(m.data)-m.done)/block, (len(o.data)-o.done)/block, most)
		if n == 0 {
			return
		}
		twin(&m.state, &m.data[m.done], &o.state, &o.data[o.done], n)
		m.done += n * block
		o.done += n * block
	}
}

// end hashes what is left.
func (m *message) end() (sum Hash) {
	h := resume(m.state, m.done)
	piecewise.Write(h, m.data[m.done:]) // a hash never fails
	h.Sum(sum[:0])
	return sum
}

// resume returns a hash that has taken n bytes, a multiple of a block, by the form in
// which the standard library saves one.
func resume(state [8]uint32, n int) hash.Hash {
	h := sha256.New()
	saved := []byte("sha\x03")
	for _, x := range state {
		saved = binary.BigEndian.AppendUint32(saved, x)
	}
	saved = append(saved, make([]byte, block)...)
	saved = binary.BigEndian.AppendUint64(saved, uint64(n))
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(saved); err != nil {
		panic(err) // this form never changes: programs keep it on disk
	}
	return h
}
