package replay

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/job"
)

var kinds = []string{"fifo", "uniform", "reward", "mixture", "diverse"}

func mustNew(t testing.TB, c job.Replay, seed uint64) Buffer {
	t.Helper()
	b, err := New(c, seed)
	if err != nil || b == nil {
		t.Fatal(b, err)
	}
	return b
}

func config(kind string, limit int64) job.Replay {
	return job.Replay{Kind: kind, Bytes: limit, RewardExponent: 1, Recent: 0.5, TopK: 50, MinDistance: 0.4}
}

func mustInsert(t testing.TB, b Buffer, items ...Item) {
	t.Helper()
	for _, it := range items {
		if err := b.Insert(it, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func draws(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// TestNoneIsNoBuffer, and what is not a kind is an error.
func TestNoneIsNoBuffer(t *testing.T) {
	if b, err := New(job.Replay{Kind: "none"}, 1); b != nil || err != nil {
		t.Error(b, err)
	}
	if _, err := New(job.Replay{Kind: "best"}, 1); err == nil {
		t.Error("a kind that does not exist is accepted")
	}
}

// TestBoundAndState: whatever is inserted, the bound is never exceeded; a buffer
// restored from its encoding draws and evicts as the original does.
func TestBoundAndState(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, rapid.MakeCheck(func(t *rapid.T) {
			limit := rapid.Int64Range(1<<10, 1<<14).Draw(t, "limit")
			b, _ := New(config(kind, limit), 3)
			insert := func(b Buffer, i int, length int, reward float64, worker int) {
				text := fmt.Sprintf("%d:%0*d", length%7, length, i%40)
				features := []int32{int32(i % 5), int32(5 + i%7), int32(12 + i%3)}
				if err := b.Insert(Item{Text: text, LogReward: reward, Version: uint64(i), Worker: fmt.Sprint("worker-", worker), Insert: uint64(i)}, features); err != nil {
					t.Fatal(err)
				}
				if b.Bytes() > limit {
					t.Fatalf("%d bytes with %d items, the bound is %d", b.Bytes(), b.Len(), limit)
				}
			}
			n := rapid.IntRange(1, 150).Draw(t, "n")
			lengths := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 40), rapid.IntRange(1, 20_000)), n, n).Draw(t, "lengths")
			rewards := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), n, n).Draw(t, "rewards")
			for i := range n / 2 {
				insert(b, i+1, lengths[i], rewards[i], i%3)
			}
			data, err := b.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			again, _ := New(config(kind, limit), 3)
			insert(again, 99, 5, 1, 1) // is replaced
			if err := again.Restore(data); err != nil {
				t.Fatal(err)
			}
			for i := n / 2; i < n; i++ {
				insert(b, i+1, lengths[i], rewards[i], i%3)
				insert(again, i+1, lengths[i], rewards[i], i%3)
			}
			if b.Bytes() != again.Bytes() || !slices.Equal(b.Items(), again.Items()) {
				t.Fatalf("restored, %d bytes of %v; else %d of %v", again.Bytes(), again.Items(), b.Bytes(), b.Items())
			}
			if x, y := b.Draw(draws(1), 20, nil), again.Draw(draws(1), 20, nil); !slices.Equal(x, y) {
				t.Fatalf("draws %v, restored %v", x, y)
			}
			one, err1 := b.MarshalBinary()
			two, err2 := again.MarshalBinary()
			if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
				t.Fatal("the encodings differ", err1, err2)
			}
			if it := b.Items(); !slices.IsSortedFunc(it, func(x, y Item) int { return int(x.Insert) - int(y.Insert) }) || len(it) != b.Len() {
				t.Fatalf("not in the order of insertion: %v", it)
			}
		}))
	}
}

// TestRestoreRefuses what is cut, of another kind's bound, or senseless, and
// changes nothing then.
func TestRestoreRefuses(t *testing.T) {
	for _, kind := range kinds {
		b := mustNew(t, config(kind, 4096), 1)
		for i := range 20 {
			mustInsert(t, b, Item{Text: fmt.Sprint("object ", i), LogReward: float64(i), Insert: uint64(i + 1)})
		}
		data, err := b.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		small := mustNew(t, config(kind, 1024), 1)
		mustInsert(t, small, Item{Text: "mine", Insert: 1})
		for name, bad := range map[string][]byte{"too large": data, "cut": data[:len(data)/2], "empty": nil, "noise": []byte("\xdf\xff\xff\xff\xff")} {
			if kind == "diverse" && name == "too large" {
				continue // without features all are one object
			}
			if err := small.Restore(bad); !errors.Is(err, ErrState) {
				t.Errorf("%s, %s: got %v", kind, name, err)
			}
		}
		if it := small.Items(); len(it) != 1 || it[0].Text != "mine" {
			t.Errorf("%s: an encoding that was refused left %v", kind, it)
		}
	}
}

func FuzzRestore(f *testing.F) {
	for _, kind := range kinds {
		b := mustNew(f, config(kind, 4096), 1)
		for i := range 5 {
			mustInsert(f, b, Item{Text: fmt.Sprint(i), Insert: uint64(i + 1), Worker: "w"})
		}
		data, err := b.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range kinds {
			b := mustNew(t, config(kind, 1<<14), 1)
			if err := b.Restore(data); err != nil {
				continue
			}
			if b.Bytes() > b.Limit() {
				t.Errorf("%s: %d bytes of %d", kind, b.Bytes(), b.Limit())
			}
			b.Draw(draws(1), 3, nil)
			for i := range 50 {
				mustInsert(t, b, Item{Text: fmt.Sprint("new ", i), LogReward: float64(i), Insert: uint64(i + 1)})
			}
		}
	})
}

// TestInsertRefuses what no buffer keeps.
func TestInsertRefuses(t *testing.T) {
	for _, kind := range kinds {
		b := mustNew(t, config(kind, 4096), 1)
		for _, bad := range []Item{
			{Text: "", Insert: 1}, {Text: "x", LogReward: math.NaN(), Insert: 1}, {Text: "x", LogReward: math.Inf(1), Insert: 1}, {Text: "x"},
		} {
			if err := b.Insert(bad, nil); !errors.Is(err, ErrItem) || b.Len() != 0 {
				t.Errorf("%s: %+v: %v", kind, bad, err)
			}
		}
		if got := b.Draw(draws(1), 5, nil); len(got) != 0 {
			t.Errorf("%s: an empty buffer draws %v", kind, got)
		}
	}
}

// TestOldestGoFirst from fifo, reward and mixture.
func TestOldestGoFirst(t *testing.T) {
	for _, kind := range []string{"fifo", "reward", "mixture"} {
		b := mustNew(t, config(kind, 4096), 1)
		for i := range 500 {
			mustInsert(t, b, Item{Text: fmt.Sprint("object ", i), LogReward: -float64(i), Insert: uint64(i + 1)})
			it := b.Items()
			if first, last := it[0].Insert, it[len(it)-1].Insert; last != uint64(i+1) || last-first != uint64(len(it)-1) {
				t.Fatalf("%s keeps %d items, %d to %d, after insertion %d", kind, len(it), first, last, i+1)
			}
		}
		if b.Len() < 15 {
			t.Errorf("%s: %d items in %d bytes", kind, b.Len(), b.Limit())
		}
	}
}

// TestDistinct: reward and mixture keep an object once, fifo every insertion.
func TestDistinct(t *testing.T) {
	for kind, want := range map[string]int{"fifo": 6, "reward": 3, "mixture": 3, "uniform": 6} {
		b := mustNew(t, config(kind, 1<<16), 1)
		for i := range 6 {
			mustInsert(t, b, Item{Text: fmt.Sprint(i % 3), Insert: uint64(i + 1)})
		}
		if b.Len() != want {
			t.Errorf("%s keeps %d of 3 objects inserted twice, want %d", kind, b.Len(), want)
		}
	}
}

// chiSquare compares counts with the probabilities of their cells, and says
// whether they are within 4.5 standard deviations of what chance gives.
func chiSquare(t *testing.T, name string, counts []float64, p []float64) {
	t.Helper()
	n, x2 := 0.0, 0.0
	for _, c := range counts {
		n += c
	}
	for i, c := range counts {
		want := n * p[i]
		if want < 5 {
			t.Fatalf("%s: cell %d expects %v", name, i, want)
		}
		x2 += (c - want) * (c - want) / want
	}
	if df := float64(len(counts) - 1); x2 > df+4.5*math.Sqrt(2*df)+3 {
		t.Errorf("%s: chi-square %.1f with %v degrees of freedom: %v", name, x2, df, counts)
	}
}

// TestLaws: the frequencies of draws are those of each kind's formula, also when
// the log-rewards are far beyond what a float64 can hold as rewards.
func TestLaws(t *testing.T) {
	const n, total = 12, 60_000
	for _, shift := range []float64{0, -5000, 5000} {
		item := make([]Item, n)
		for i := range item {
			item[i] = Item{Text: fmt.Sprint(i), LogReward: shift + 0.3*float64(i%5), Insert: uint64(i + 1)}
		}
		flat, reward, recent := make([]float64, n), make([]float64, n), make([]float64, n)
		sum := 0.0
		for i := range n {
			flat[i] = 1.0 / n
			recent[i] = (2*float64(i) + 1) / (n * n) // item i has rank n−i from the newest
			reward[i] = math.Exp(2 * (item[i].LogReward - shift))
			sum += reward[i]
		}
		mixed := make([]float64, n)
		for i := range n {
			reward[i] /= sum
			mixed[i] = 0.3*recent[i] + 0.7*reward[i]
		}
		for kind, law := range map[string][]float64{"fifo": flat, "uniform": flat, "reward": reward, "mixture": mixed, "diverse": flat} {
			c := config(kind, 1<<16)
			c.RewardExponent, c.Recent, c.MinDistance = 2, 0.3, 0
			b := mustNew(t, c, 1)
			mustInsert(t, b, item...)
			counts := make([]float64, n)
			for _, it := range b.Draw(draws(11), total, nil) {
				counts[it.Insert-1]++
			}
			chiSquare(t, fmt.Sprint(kind, " at ", shift), counts, law)
		}
	}
}

// TestUniformOverAllInsertions: every insertion of the past is kept with the
// same probability, early or late, short or long.
func TestUniformOverAllInsertions(t *testing.T) {
	const n = 200
	counts, kept := make([]float64, 20), 0.0 // by age, and by length of the text
	for seed := range uint64(300) {
		b := mustNew(t, config("uniform", 4096), seed)
		for i := range n {
			mustInsert(t, b, Item{Text: fmt.Sprintf("%0*d", 1+80*(i%2), i), Insert: uint64(i + 1)})
		}
		for _, it := range b.Items() {
			i := int(it.Insert) - 1
			counts[i/20+10*(i%2)]++
			kept++
		}
	}
	p := make([]float64, len(counts))
	for i := range p {
		p[i] = 1 / float64(len(p))
	}
	chiSquare(t, "uniform", counts, p)
	if kept < 300*10 {
		t.Errorf("%v kept on average", kept/300)
	}
}

// TestDiverse: no two kept are nearer than the distance; a better object
// replaces those it is too near to; the worst go first.
func TestDiverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := config("diverse", 1<<20)
		c.TopK, c.MinDistance = rapid.IntRange(1, 8).Draw(t, "top_k"), rapid.SampledFrom([]float64{0, 0.3, 0.5, 1}).Draw(t, "distance")
		b := mustNewRapid(t, c)
		for i := range rapid.IntRange(1, 80).Draw(t, "n") {
			f := []int32{int32(rapid.IntRange(0, 3).Draw(t, "a")), int32(4 + rapid.IntRange(0, 3).Draw(t, "b")), int32(8 + rapid.IntRange(0, 3).Draw(t, "c"))}
			it := Item{Text: fmt.Sprint(f), LogReward: float64(rapid.IntRange(0, 20).Draw(t, "r")), Insert: uint64(i + 1)}
			before := slices.Clone(b.kept)
			nearest := math.Inf(-1) // best of those too near
			for k := range before {
				if before[k].Text == it.Text || Distance(b.features[k], f) < c.MinDistance {
					nearest = max(nearest, before[k].LogReward)
				}
			}
			if err := b.Insert(it, f); err != nil {
				t.Fatal(err)
			}
			in := slices.ContainsFunc(b.kept, func(x Item) bool { return x.Insert == it.Insert })
			full := len(before) == c.TopK && it.LogReward <= before[len(before)-1].LogReward
			if want := it.LogReward > nearest && !full; in != want {
				t.Fatalf("%v with the best of its neighbours at %v, full %v: kept %v", it, nearest, full, in)
			}
			for k := range b.kept {
				for l := range k {
					if b.kept[k].Text == b.kept[l].Text || Distance(b.features[k], b.features[l]) < c.MinDistance {
						t.Fatalf("%v and %v are kept", b.kept[k], b.kept[l])
					}
				}
			}
			if len(b.kept) > c.TopK || !slices.IsSortedFunc(b.kept, bestFirst) {
				t.Fatalf("kept %v", b.kept)
			}
		}
	})
}

func mustNewRapid(t *rapid.T, c job.Replay) *diverse {
	b, err := New(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	return b.(*diverse)
}

// TestTreeAgainstSums: the root is the log of the sum whatever was set.
func TestTreeAgainstSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		var tr tree
		tr.reset(n)
		w := make([]float64, n)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			i := rapid.IntRange(0, n-1).Draw(t, "i")
			w[i] = rapid.Float64Range(0.001, 1000).Draw(t, "w")
			tr.set(i, math.Log(w[i]))
		}
		sum := 0.0
		for _, x := range w {
			sum += x
		}
		if got := math.Exp(tr.node[1]); math.Abs(got-sum) > 1e-9*sum {
			t.Fatalf("root %v, sum %v", got, sum)
		}
		if leaf := tr.draw(draws(5)); w[leaf] == 0 {
			t.Fatalf("drew leaf %d, which has no weight", leaf)
		}
	})
}

// TestBytesAreHonest compares what a full buffer says it takes with the heap.
func TestBytesAreHonest(t *testing.T) {
	for _, kind := range kinds {
		c := config(kind, 4<<20)
		c.TopK, c.MinDistance = 1<<20, 0
		n := 60_000
		if kind == "diverse" {
			n = 3000 // its insertions take time linear in what is kept
		}
		before := heap()
		b := mustNew(t, c, 1)
		r := draws(2)
		for i := range n {
			it := Item{Text: fmt.Sprintf("(%0*d)", 10+r.IntN(40), i), LogReward: r.Float64(), Worker: fmt.Sprint("worker ", i%50), Insert: uint64(i + 1)}
			if err := b.Insert(it, []int32{int32(i), int32(i + 1), int32(i + 2)}); err != nil {
				t.Fatal(err)
			}
		}
		taken := float64(heap() - before)
		if ratio := taken / float64(b.Bytes()); ratio > 1.15 || ratio < 0.4 {
			t.Errorf("%s: %d items take %.0f bytes of heap, said to be %d (%.2f)", kind, b.Len(), taken, b.Bytes(), ratio)
		}
		if kind != "diverse" && b.Bytes() < c.Bytes/2 {
			t.Errorf("%s: %d of %d bytes in use", kind, b.Bytes(), c.Bytes)
		}
		runtime.KeepAlive(b)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
