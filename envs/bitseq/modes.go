package bitseq

import (
	"math/rand/v2"

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

// TestSet is the set of gfnx for the correlation of log-reward and log-probability:
// for every mode and every c = 0 … n−1, the mode with c distinct random bits flipped,
// 7,200 strings of 60 modes of 120 bits. It depends on the modes and their seed only.
func (b *Bits) TestSet() []string {
	n := b.c.Bits
	out := make([]string, 0, n*len(b.task.modes))
	r := rng.New(uint64(b.c.ModesSeed), rng.Target, 1)
	order := make([]int, n)
	for _, m := range b.task.modes {
		for flips := range n {
			x := append([]uint64(nil), m...)
			for _, i := range sample(r, order, flips) {
				x[i/64] ^= 1 << (i % 64)
			}
			out = append(out, bitText(x, n))
		}
	}
	return out
}

// sample draws count distinct numbers below len(order), which is room for it.
func sample(r *rand.Rand, order []int, count int) []int {
	for i := range order {
		order[i] = i
	}
	for i := range count {
		j := i + r.IntN(len(order)-i)
		order[i], order[j] = order[j], order[i]
	}
	return order[:count]
}

func bitText(x []uint64, n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = '0' + byte(x[i/64]>>(i%64)&1)
	}
	return string(text)
}
