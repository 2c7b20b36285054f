package bitseq

import (
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/rng"
)

// blockBits is the width of a block of a mode.
const blockBits = 8

// blocks are what modes are made of.
var blocks = []string{"00000000", "11111111", "11110000", "00001111", "00111100"}

// mostModes is how many modes of n bits may be asked for: the 5^(n/8) that there
// are, at most maxModes.
func mostModes(n int) int {
	most := 1
	for range n / blockBits {
		if most *= len(blocks); most >= maxModes {
			return maxModes
		}
	}
	return most
}

// drawModes draws distinct modes: one that came before is drawn again, as in
// torchgfn (gfnx keeps it, but of 60 modes of 120 bits two are equal once in 17
// million draws). The draws are this project's own; to have those of another
// library, write them to a file.
func drawModes(n, count int, seed uint64) []string {
	r, seen := rng.New(seed, rng.Target, 0), map[string]bool{}
	out := make([]string, 0, count)
	for len(out) < count {
		text := make([]byte, 0, n)
		for len(text) < n {
			text = append(text, blocks[r.IntN(len(blocks))]...)
		}
		if mode := string(text); !seen[mode] {
			seen[mode] = true
			out = append(out, mode)
		}
	}
	return out
}

// ModeTexts are the modes, as bits.
func (b *Bits) ModeTexts() []string {
	out := make([]string, len(b.task.modes))
	for i, m := range b.task.modes {
		out[i] = bitText(m, b.c.Bits)
	}
	return out
}

// NumTests is the number of objects of the test set, on which gfnx correlates
// log-reward and log-probability: for every mode and every c = 0 … n−1, the mode with
// c distinct random bits flipped; 7,200 objects of 60 modes of 120 bits.
func (b *Bits) NumTests() int { return b.c.Bits * len(b.task.modes) }

// LoadTest makes the row test object i: mode i / n with i % n bits flipped. Which ones
// depends on the seed of the modes only.
func (b *Bits) LoadTest(s envs.States, row, i int) {
	if err := s.Parse(row, b.test(i)); err != nil {
		panic(err) // the bits of an object of this very environment
	}
}

func (b *Bits) test(i int) string {
	n := b.c.Bits
	mode, flips := i/n, i%n
	x := slices.Clone(b.task.modes[mode])
	r := rng.New(uint64(b.c.ModesSeed), rng.Target, 1, uint64(i))
	order := make([]int, n)
	for at := range order {
		order[at] = at
	}
	for at := range flips { // the first steps of a shuffle
		other := at + r.IntN(n-at)
		order[at], order[other] = order[other], order[at]
		x[order[at]/64] ^= 1 << (order[at] % 64)
	}
	return bitText(x, n)
}

func bitText(x []uint64, n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = '0' + byte(x[i/64]>>(i%64)&1)
	}
	return string(text)
}
