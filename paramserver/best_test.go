package paramserver

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// offer does what the Updater does with a trajectory.
func offer(b *bestKeeper, text string, logReward float64) {
	if key := []byte(text); b.wants(logReward) && b.fresh(key, logReward) {
		b.add(key, fsm.Object{Text: text, LogReward: logReward})
	}
}

// TestBestAreTheBest of all that was offered, in whatever order it came and
// wherever the keeper was restored between: against a list of everything. What
// is taken adds up to at least the list.
func TestBestAreTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "n")
		b := newBestKeeper(n)
		all, taken := map[string]float64{}, map[fsm.Object]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"offer": func(t *rapid.T) {
				text := rapid.StringMatching(`[a-d]{1,2}`).Draw(t, "text")
				r := float64(rapid.IntRange(-2, 2).Draw(t, "log-reward")) // ties, and the same text with other rewards
				if before, known := all[text]; !known || r > before {
					all[text] = r
				}
				offer(b, text, r)
			},
			"take": func(t *rapid.T) {
				for _, o := range b.take() {
					if taken[o] {
						t.Fatalf("%v is taken twice", o)
					}
					taken[o] = true
				}
				for _, o := range b.list {
					if !taken[o] {
						t.Fatalf("%v is listed and was never taken", o)
					}
				}
			},
			"forget": func(t *rapid.T) { clear(b.seen) },
			"restore": func(t *rapid.T) {
				for _, o := range b.take() {
					taken[o] = true
				}
				again := newBestKeeper(n)
				again.restore(b.list)
				b = again
			},
			"": func(t *rapid.T) {
				var want []fsm.Object
				for _, text := range slices.Sorted(maps.Keys(all)) {
					want = append(want, fsm.Object{Text: text, LogReward: all[text]})
				}
				slices.SortFunc(want, bestFirst)
				want = want[:min(n, len(want))]
				if !slices.Equal(b.list, want) {
					t.Fatalf("the list is %v, want %v", b.list, want)
				}
				if err := checkBest(b.list); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

// TestBestAreBounded in text, and in what is remembered beside them.
func TestBestAreBounded(t *testing.T) {
	b := newBestKeeper(maxBest)
	offer(b, "short", 0)
	offer(b, strings.Repeat("x", maxBestBytes+1), 9)
	if len(b.list) != 1 || b.list[0].Text != "short" {
		t.Errorf("%d objects are listed beside one that is too long", len(b.list))
	}
	for i := range 300 {
		offer(b, strings.Repeat("y", 2000)+fmt.Sprint(i), float64(i))
	}
	size := 0
	for _, o := range b.list {
		size += len(o.Text)
	}
	if size > maxBestBytes || len(b.list) != maxBestBytes/2003 || b.list[0].LogReward != 299 {
		t.Errorf("%d objects with %d bytes of text, the best with %v", len(b.list), size, b.list[0].LogReward)
	}
	for i := range 3 * maxSeen {
		offer(b, fmt.Sprint(i), 1000)
	}
	if len(b.seen) > maxSeen || len(b.list) != maxBest {
		t.Errorf("%d keys are remembered, %d objects listed", len(b.seen), len(b.list))
	}
}

func TestForeignBestAreRefused(t *testing.T) {
	good := []fsm.Object{{Text: "a", LogReward: 2}, {Text: "b", LogReward: 1}, {Text: "c", LogReward: 1}}
	if err := checkBest(good); err != nil {
		t.Error(err)
	}
	var many []fsm.Object
	for i := range maxBest + 1 {
		many = append(many, fsm.Object{Text: fmt.Sprint(i), LogReward: -float64(i)})
	}
	for name, list := range map[string][]fsm.Object{
		"too many":      many,
		"too long":      {{Text: strings.Repeat("x", maxBestBytes+1)}},
		"nameless":      {{LogReward: 1}},
		"not sorted":    {good[1], good[0]},
		"ties unsorted": {good[2], good[1]},
		"twice":         {good[0], {Text: "a", LogReward: 1}},
		"NaN":           {{Text: "a", LogReward: math.NaN()}},
		"infinite":      {{Text: "a", LogReward: math.Inf(1)}},
	} {
		if err := checkBest(list); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
