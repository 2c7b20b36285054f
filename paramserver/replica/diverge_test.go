package replica

import (
	"fmt"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"pgregory.net/rapid"
)

// chainsOf reads "a:64=x,128=y b:64=x": the chains of nodes by index.
func chainsOf(t *testing.T, text string) map[string]Chain {
	t.Helper()
	out := map[string]Chain{}
	for _, word := range strings.Fields(text) {
		node, list, _ := strings.Cut(word, ":")
		out[node] = Chain{}
		for _, item := range strings.Split(list, ",") {
			var index uint64
			var hash byte
			if item == "" {
				continue
			}
			if _, err := fmt.Sscanf(item, "%d=%c", &index, &hash); err != nil {
				t.Fatal(item, err)
			}
			out[node][index] = fsm.Hash{hash}
		}
	}
	return out
}

func TestCompare(t *testing.T) {
	abc, five := []string{"a", "b", "c"}, []string{"a", "b", "c", "d", "e"}
	for _, c := range []struct {
		name   string
		self   string
		voters []string
		chains string
		want   Comparison
	}{
		{"all agree", "a", abc, "a:64=x,128=y b:64=x,128=y c:64=x", Comparison{}},
		{"nothing to compare", "a", abc, "a: b: c:", Comparison{}},
		{"one voter", "a", []string{"a"}, "a:64=x", Comparison{}},
		{"no common index", "a", abc, "a:64=x b:128=y c:192=z", Comparison{}},
		{"this one is wrong", "a", abc, "a:64=x,128=n b:64=x,128=y c:64=x,128=y", Comparison{Diverged, 128, 1, 2}},
		{"another one is", "b", abc, "a:64=n b:64=x c:64=x", Comparison{}},
		{"the first index counts", "a", abc, "a:64=n,128=n b:64=x,128=x c:64=x,128=x", Comparison{Diverged, 64, 1, 2}},
		{"one does not answer, two disagree", "a", abc, "a:64=n b:64=x", Comparison{Divided, 64, 1, 1}},
		{"one does not answer, two agree", "a", abc, "a:64=x b:64=x", Comparison{}},
		{"three states", "a", abc, "a:64=l b:64=m c:64=n", Comparison{Divided, 64, 1, 2}},
		{"two of five are wrong", "a", five, "a:64=n b:64=n c:64=x d:64=x e:64=x", Comparison{Diverged, 64, 2, 3}},
		{"three of five, two of them silent", "a", five, "a:64=n c:64=x d:64=x", Comparison{Divided, 64, 1, 2}},
		{"a learner that is wrong", "l", abc, "l:64=n a:64=x b:64=x", Comparison{Diverged, 64, 0, 2}},
		{"a learner and one voter", "l", abc, "l:64=n a:64=x", Comparison{}},
		{"a learner does not vote", "a", abc, "l:64=n a:64=x b:64=x c:64=x", Comparison{}},
		{"two voters", "a", []string{"a", "b"}, "a:64=n b:64=x", Comparison{Divided, 64, 1, 1}},
		{"own fault before a division", "a", five, "a:64=l,128=n b:64=m,128=x c:128=x d:128=x", Comparison{Diverged, 128, 1, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Compare(c.self, c.voters, chainsOf(t, c.chains)); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestAMajorityNeverStops: whatever a minority holds, a node of the majority goes
// on, and a node of the minority stops.
func TestAMajorityNeverStops(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{3, 5}).Draw(t, "voters")
		wrong := rapid.IntRange(0, (n-1)/2).Draw(t, "wrong")
		chains := map[string]Chain{}
		var voters []string
		for i := range n {
			id := fmt.Sprint(i)
			h := fsm.Hash{1}
			if i < wrong {
				h = fsm.Hash{byte(2 + rapid.IntRange(0, 1).Draw(t, "kind"))}
			}
			voters, chains[id] = append(voters, id), Chain{64: h}
		}
		for i, id := range voters {
			want := Agreed
			if i < wrong {
				want = Diverged
			}
			if got := Compare(id, voters, chains); got.Agreement != want {
				t.Fatalf("node %s of %d, %d of them wrong: %+v", id, n, wrong, got)
			}
		}
	})
}
