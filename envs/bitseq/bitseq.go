// Package bitseq is the bit-sequence benchmark (Malkin et al., NeurIPS 2022; Madan et
// al., ICML 2023): strings of n bits, made word by word of k bits, whose reward falls
// with the distance to the nearest of some hidden strings, the modes:
//
//	log R(x) = −β · m(x) / n,   m(x) = smallest Hamming distance, in bits, of x to a mode
//
// as in gfnx (its baseline has β = 3) and in torchgfn's non-autoregressive version.
// R is 1 at a mode and e^−β as far from all as can be. torchgfn's append-only version
// does not divide by n: β = n here is its temperature 1.
//
// Modes are made of blocks of 8 bits, each drawn from five: 00000000, 11111111,
// 11110000, 00001111, 00111100. The block width is 8, whatever k is. An object counts
// as one of a mode when it is nearer than a threshold; it may be near several.
package bitseq

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/envs/places"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

const (
	maxBits  = 1024 // keeps 2^n inside a float64
	maxWord  = 16
	maxModes = 1 << 16
	maxBeta  = 1e6
)

// Config is one set of bit sequences.
type Config struct {
	Bits      int     // n, length of an object
	Word      int     // k, bits that an action sets; divides Bits
	Order     string  // places.Any or places.Left
	Beta      float64 // β
	Modes     int     // number of modes that are drawn
	ModesSeed int     // what they are drawn from
	// ModesFile names a file with one mode a line, in place of drawn ones, and SHA256
	// what it must hash to, or "". New does not open it: Given has its lines.
	ModesFile, SHA256 string
	Given             []string
	// Threshold is the Hamming distance strictly below which an object counts as one
	// of a mode; 0 is a quarter of Bits.
	Threshold int
}

// Default is the setting of published results: 120 bits in words of 8, 60 modes.
func Default() Config {
	return Config{Bits: 120, Word: 8, Order: places.Any, Beta: 3, Modes: 60}
}

// Bind names the fields of c as parameters.
func Bind(c *Config) []params.Binding {
	return []params.Binding{
		params.Int("n", &c.Bits, "bits of an object"),
		params.Int("k", &c.Word, "bits that an action sets; divides n"),
		params.Text("order", &c.Order, "any: words in any order (non-autoregressive); left: from left to right"),
		params.Float("beta", &c.Beta, "log R = -beta times the distance to the nearest mode / n"),
		params.Int("modes", &c.Modes, "number of modes"),
		params.Int("modes_seed", &c.ModesSeed, "what the modes are drawn from"),
		params.File("modes_file", &c.ModesFile, "a text file with one mode of n bits a line, in place of drawn ones"),
		params.Text("sha256", &c.SHA256, "SHA-256 that modes_file must have, in hex; every node opens its own file"),
		params.Int("threshold", &c.Threshold, "an object nearer than this to a mode counts as found; 0: a quarter of n"),
	}
}

// New returns the environment. It is an envs.Overlapping and envs.Tested, and an
// envs.Enumerable when it is small. Faults in c are *fielderr.Error, joined when
// there are several.
func New(c Config) (envs.Env, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Threshold == 0 {
		c.Threshold = max(1, c.Bits/4)
	}
	shape := places.Shape{Name: "bitseq", Places: c.Bits / c.Word, Vocabulary: 1 << c.Word, Order: c.Order}
	if err := shape.Check("n", "k"); err != nil {
		return nil, err
	}
	texts := c.Given
	if c.ModesFile == "" {
		texts = drawModes(c.Bits, c.Modes, uint64(c.ModesSeed))
	}
	task := words{n: c.Bits, k: c.Word, scale: -c.Beta / float64(c.Bits)}
	for _, text := range texts {
		task.modes = append(task.modes, parseBits(text))
	}
	b := &Bits{Env: places.New(shape, task), task: task, c: c}
	if listing, ok := places.List(b.Env); ok {
		return &listed{b, listing}, nil
	}
	return &unlisted{b}, nil
}

func (c Config) validate() error {
	var faults []error
	fault := func(path string, value any, want string) {
		faults = append(faults, fielderr.New(path, value, want))
	}
	switch {
	case c.Bits < 1 || c.Bits > maxBits:
		fault("n", c.Bits, fmt.Sprintf("an integer from 1 to %d", maxBits))
	case c.Word < 1 || c.Word > maxWord || c.Bits%c.Word != 0:
		fault("k", c.Word, fmt.Sprintf("an integer from 1 to %d that divides n = %d", maxWord, c.Bits))
	case c.ModesFile == "" && c.Bits%blockBits != 0:
		fault("n", c.Bits, fmt.Sprintf("a multiple of %d, the width of the blocks that modes are drawn as", blockBits))
	}
	if !(c.Beta > 0) || c.Beta > maxBeta {
		fault("beta", c.Beta, fmt.Sprintf("a number above 0, at most %v", maxBeta))
	}
	if most := mostModes(c.Bits); c.ModesFile == "" && (c.Modes < 1 || c.Modes > most) {
		fault("modes", c.Modes, fmt.Sprintf("an integer from 1 to %d", most))
	}
	if c.ModesSeed < 0 {
		fault("modes_seed", c.ModesSeed, "an integer of at least 0")
	}
	if c.SHA256 != "" && c.ModesFile == "" {
		fault("sha256", c.SHA256, "nothing: there is no modes_file")
	}
	if c.Threshold < 0 || c.Threshold > max(c.Bits, 0) {
		fault("threshold", c.Threshold, fmt.Sprintf("an integer from 1 to n = %d, or 0 for a quarter of n", c.Bits))
	}
	if c.ModesFile != "" && len(faults) == 0 {
		if want := checkGiven(c.Given, c.Bits); want != "" {
			fault("modes_file", c.ModesFile, want)
		}
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

// checkGiven says what would be right about lines that are no modes; "" when they are.
func checkGiven(lines []string, n int) string {
	if len(lines) < 1 || len(lines) > maxModes {
		return fmt.Sprintf("1 to %d lines, one mode each; it has %d", maxModes, len(lines))
	}
	first := map[string]int{}
	for i, line := range lines {
		if len(line) != n || strings.Trim(line, "01") != "" {
			return fmt.Sprintf("%d bits, 0 or 1, on every line; line %d is %.140q", n, i+1, line)
		}
		if at, twice := first[line]; twice {
			return fmt.Sprintf("distinct modes; line %d repeats line %d", i+1, at)
		}
		first[line] = i + 1
	}
	return ""
}

// Bits are bit sequences of any length.
type Bits struct {
	*places.Env
	task words
	c    Config
}

// unlisted are Bits that are too many to list, listed few enough: their facts come
// from listing them.
type unlisted struct{ *Bits }

type listed struct {
	*Bits
	places.Listing
}

// Facts are the number of objects and modes, and the reward of a mode. There is no
// cheap closed form of log Z.
func (b *unlisted) Facts() envs.Facts {
	cells, modes, best := math.Exp2(float64(b.c.Bits)), float64(b.NumModes()), 1.0
	f := envs.Facts{MaxSteps: b.Spec().MaxSteps, Modes: &modes, MaxReward: &best}
	if !math.IsInf(cells, 0) {
		f.Cells = &cells
	}
	return f
}

// NumModes is the number of modes.
func (b *Bits) NumModes() int { return len(b.task.modes) }

// Mode is the nearest mode of a terminal row, the first of several, -1 where none is
// nearer than the threshold.
func (b *Bits) Mode(s envs.States, row int) int {
	best, least := -1, b.c.Threshold
	if !s.Terminal(row) {
		return best
	}
	var buf packed
	x := b.task.pack(&buf, places.Tokens(s, row))
	for i, m := range b.task.modes {
		if d := distance(x, m); d < least {
			best, least = i, d
		}
	}
	return best
}

// AppendModes appends every mode that is nearer than the threshold.
func (b *Bits) AppendModes(dst []int, s envs.States, row int) []int {
	if !s.Terminal(row) {
		return dst
	}
	var buf packed
	x := b.task.pack(&buf, places.Tokens(s, row))
	for i, m := range b.task.modes {
		if distance(x, m) < b.c.Threshold {
			dst = append(dst, i)
		}
	}
	return dst
}

// words is the Task: a token is a word, its first bit the most significant.
type words struct {
	n, k  int
	scale float64    // −β/n
	modes [][]uint64 // packed: bit i is bit i%64 of word i/64
}

// packed has room for any object.
type packed [maxBits / 64]uint64

func (w words) LogReward(tokens []int32) float64 {
	var buf packed
	x := w.pack(&buf, tokens)
	least := w.n
	for _, m := range w.modes {
		least = min(least, distance(x, m))
	}
	return w.scale * float64(least)
}

// pack puts an object's bits into buf.
func (w words) pack(buf *packed, tokens []int32) []uint64 {
	at := 0
	for _, t := range tokens {
		// The first bit of a word goes to the lowest place.
		v := uint64(bits.Reverse32(uint32(t)) >> (32 - w.k))
		buf[at/64] |= v << (at % 64)
		if over := at%64 + w.k - 64; over > 0 {
			buf[at/64+1] |= v >> (w.k - over)
		}
		at += w.k
	}
	return buf[:(w.n+63)/64]
}

func distance(a, b []uint64) int {
	d := 0
	for i, v := range a {
		d += bits.OnesCount64(v ^ b[i])
	}
	return d
}

// parseBits packs a text of 0s and 1s.
func parseBits(text string) []uint64 {
	out := make([]uint64, (len(text)+63)/64)
	for i := range text {
		if text[i] == '1' {
			out[i/64] |= 1 << (i % 64)
		}
	}
	return out
}

// AppendText appends the bits; those of an empty place are dots.
func (w words) AppendText(dst []byte, tokens []int32) []byte {
	for _, t := range tokens {
		for bit := w.k - 1; bit >= 0; bit-- {
			switch {
			case t == places.Empty:
				dst = append(dst, '.')
			default:
				dst = append(dst, '0'+byte(t>>bit&1))
			}
		}
	}
	return dst
}

func (w words) ReadText(tokens []int32, text string) error {
	text = strings.TrimSpace(text)
	if len(text) != w.n || strings.Trim(text, "01") != "" {
		return fmt.Errorf("%w: %.140q; want %d bits, 0 or 1", places.ErrText, text, w.n)
	}
	clear(tokens)
	for i := range text {
		tokens[i/w.k] = tokens[i/w.k]<<1 | int32(text[i]-'0')
	}
	return nil
}
