package twinsha

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

func check(t *testing.T, whole []byte, parts ...[]byte) {
	t.Helper()
	sum, sums := Sum256(whole, parts...)
	if sum != sha256.Sum256(whole) {
		t.Errorf("another hash of %d bytes beside %d parts", len(whole), len(parts))
	}
	for i, p := range parts {
		if sums[i] != sha256.Sum256(p) {
			t.Errorf("another hash of part %d, %d bytes", i, len(p))
		}
	}
}

// TestEqualsTheStandardLibrary on all lengths around blocks, and on large ones, with
// the processor's instructions and without.
func TestEqualsTheStandardLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for n := range 200 {
		for _, m := range []int{0, 1, 63, 64, 65, 128, 199} {
			check(t, data[:n], data[1000:1000+m], data[77:77+n])
		}
	}
	for range 20 {
		a, b, c := random.IntN(len(data)), random.IntN(len(data)), random.IntN(len(data))
		check(t, data[:a], data[b:], data[c:])
	}
	check(t, data)
	check(t, nil)
	check(t, data, data, data, nil)
}

func FuzzSum256(f *testing.F) {
	f.Add([]byte("abc"), 1, 2)
	f.Fuzz(func(t *testing.T, data []byte, a, b int) {
		a, b = max(0, min(a, len(data))), max(0, min(b, len(data)))
		check(t, data, data[a:], data[:b])
	})
}

func BenchmarkSum256(b *testing.B) {
	whole, params, private := make([]byte, 852_058), make([]byte, 284_000), make([]byte, 568_000)
	b.Run("two at a time", func(b *testing.B) {
		b.SetBytes(int64(len(whole) + len(params) + len(private)))
		for b.Loop() {
			Sum256(whole, params, private)
		}
	})
	b.Run("one by one", func(b *testing.B) {
		b.SetBytes(int64(len(whole) + len(params) + len(private)))
		for b.Loop() {
			sha256.Sum256(whole)
			sha256.Sum256(params)
			sha256.Sum256(private)
		}
	})
}
