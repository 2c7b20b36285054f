package cores_test

import (
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/driftmesh/driftmesh/internal/cores"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every part is done once, and before Do returns, however calls follow each other.
func TestEveryPartIsDoneOnce(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		team := cores.New(n)
		done := make([]int32, 100)
		f := func(part int) { atomic.AddInt32(&done[part], 1) }
		for call := range 3000 {
			parts := call % len(done)
			team.Do(parts, &f)
			for p := range done {
				want := int32(0)
				if p < parts {
					want = 1
				}
				if done[p] != want {
					t.Fatalf("team of %d, call %d: part %d of %d done %d times", n, call, p, parts, done[p])
				}
				done[p] = 0
			}
		}
		team.Close()
	}
}

func TestDoAllocatesNothing(t *testing.T) {
	team := cores.New(2)
	defer team.Close()
	sum := atomic.Int64{}
	f := func(part int) { sum.Add(int64(part)) }
	if n := testing.AllocsPerRun(100, func() { team.Do(8, &f) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func BenchmarkDo(b *testing.B) {
	team := cores.New(2)
	defer team.Close()
	f := func(int) {}
	for b.Loop() {
		team.Do(2, &f)
	}
}
