package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/internal/rng"
)

// TestEveryKindHasItsTurn: in as many rounds as there are kinds each comes once,
// in an order that only the seed decides.
func TestEveryKindHasItsTurn(t *testing.T) {
	order := func(seed uint64, fixed bool, kinds ...string) (names []string) {
		drawn := &torture{TortureConfig: TortureConfig{Seed: seed, Fixed: fixed, Kinds: kinds}}
		for i := range 3 * len(KindNames()) {
			k, err := drawn.draw(i)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, k.name)
		}
		return names
	}
	all := KindNames()
	n := len(all)
	one := order(1, false)
	for block := range slices.Chunk(one, n) {
		if !slices.Equal(slices.Sorted(slices.Values(block)), slices.Sorted(slices.Values(all))) {
			t.Errorf("a block of %v", block)
		}
	}
	if !slices.Equal(one, order(1, false)) || slices.Equal(one, order(2, false)) || slices.Equal(one[:n], one[n:2*n]) {
		t.Error("the seed does not decide the order, or the order is always the same")
	}
	if got := order(1, true); !slices.Equal(got[:n], all) || !slices.Equal(got[n:2*n], all) {
		t.Errorf("fixed: %v", got)
	}
	if got := order(1, true, "kill-all", "full-disk"); !slices.Equal(got[:3], []string{"kill-all", "full-disk", "kill-all"}) {
		t.Errorf("two kinds: %v", got[:3])
	}
	if _, err := (&torture{TortureConfig: TortureConfig{Kinds: []string{"tickle"}}}).draw(0); err == nil {
		t.Error("a kind that does not exist was drawn")
	}
}

// TestDamage: log, newest snapshot, or both are hit, where they hold something
// that counts, and nothing else is.
func TestDamage(t *testing.T) {
	whole := bytes.Repeat([]byte{7}, 4096)
	written := map[string][]byte{
		"log/1.wal":                      append(slices.Clone(whole), make([]byte, 8192)...), // allocated ahead
		"log/2.wal":                      make([]byte, 8192),                                 // nothing written yet
		"snapshots/1-10-1/state.bin":     whole,
		"snapshots/2-20-2/state.bin":     whole,
		"snapshots/2-21-3.tmp/state.bin": whole, // not complete
	}
	const log, newest = "log/1.wal", "snapshots/2-20-2/state.bin"
	met := map[string]int{}
	for seed := range uint64(30) {
		dir := t.TempDir()
		for i, name := range []string{"log/1.wal", "log/2.wal", "snapshots/1-10-1/state.bin", newest, "snapshots/2-21-3.tmp/state.bin"} {
			path := filepath.Join(dir, "raft", name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, written[name], 0o600); err != nil {
				t.Fatal(err)
			}
			when := time.Unix(int64(1000+i), 0)
			if err := os.Chtimes(path, when, when); err != nil {
				t.Fatal(err)
			}
		}
		names, err := (&attempt{random: rng.New(seed, rng.Fault)}).damage(dir)
		if err != nil {
			t.Fatal(err)
		}
		var hit []string
		for name, before := range written {
			after, err := os.ReadFile(filepath.Join(dir, "raft", name))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(before, after) {
				continue
			}
			hit = append(hit, name)
			if len(after) != len(before) || !bytes.Equal(after[:3072], before[:3072]) || !bytes.Equal(after[4096:], before[4096:]) {
				t.Errorf("%s was hit outside the last quarter of what is written", name)
			}
		}
		if len(hit) != len(names) {
			t.Errorf("%v are damaged, %v are named", hit, names)
		}
		slices.Sort(hit)
		met[fmt.Sprint(hit)]++
	}
	for _, want := range [][]string{{log}, {newest}, {log, newest}} {
		if met[fmt.Sprint(want)] == 0 {
			t.Errorf("%v was never hit: %v", want, met)
		}
	}
	if len(met) != 3 {
		t.Errorf("hit were %v", met)
	}
}
