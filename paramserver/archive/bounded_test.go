package archive

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

// TestDamagedFilesAllocateLittle: lengths within a file are claims, of the pages
// and of the frames within them. A few bytes that flip must not cost gigabytes.
func TestDamagedFilesAllocateLittle(t *testing.T) {
	data, err := Encode(someRows(100))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var m runtime.MemStats
	for range 2000 {
		bad := append([]byte(nil), data...)
		for range 1 + random.IntN(3) {
			bad[random.IntN(len(bad))] = byte(random.IntN(256))
		}
		runtime.ReadMemStats(&m)
		before := m.TotalAlloc
		err := Decode(bad, 100, func(r *Row) error { return r.check() })
		if runtime.ReadMemStats(&m); m.TotalAlloc-before > 256<<20 {
			t.Fatalf("%d MiB allocated for %d bytes: %v", (m.TotalAlloc-before)>>20, len(bad), err)
		}
	}
}
