package metrics

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
)

// TopK describes the best distinct objects of a sample.
type TopK struct {
	K        int `json:"k"`        // objects, fewer where there are not that many distinct ones
	Distinct int `json:"distinct"` // objects in the whole sample
	// LogReward is the mean log R of the K, Reward the mean R; NaN of none.
	LogReward float64 `json:"log_reward"`
	Reward    float64 `json:"reward"`
	// Diversity is the mean distance of two of the K, in [0, 1]: see Distance.
	// NaN for fewer than two objects, and where objects have no marks.
	Diversity float64 `json:"diversity"`
}

// MarshalJSON writes null for what is not finite.
func (t TopK) MarshalJSON() ([]byte, error) {
	type plain TopK // without methods
	return json.Marshal(struct {
		plain
		LogReward *float64 `json:"log_reward"`
		Reward    *float64 `json:"reward"`
		Diversity *float64 `json:"diversity"`
	}{plain(t), finite(t.LogReward), finite(t.Reward), finite(t.Diversity)})
}

// Top gathers the k best distinct objects of a sample, in memory for them and
// for the keys of all.
type Top struct {
	marks  envs.Marks
	k      int
	states envs.States // the kept ones, by slot
	kept   []ranked    // best first
	seen   map[string]struct{}
	key    []byte
}

type ranked struct {
	logReward float64
	key       string
	slot      int
}

// NewTop returns an empty collection of the k (at least 1) best objects of env.
func NewTop(env envs.Env, k int) *Top {
	return &Top{marks: envs.MarksOf(env), k: k, states: env.NewStates(k), seen: map[string]struct{}{}}
}

// Add notes the object of a terminal row. Objects are ranked by log-reward, ties
// by the environment's key.
func (t *Top) Add(from envs.States, row int, logReward float64) {
	t.key = from.AppendKey(t.key[:0], row)
	if _, old := t.seen[string(t.key)]; old {
		return
	}
	o := ranked{logReward: logReward, key: string(t.key), slot: len(t.kept)}
	t.seen[o.key] = struct{}{}
	at, _ := slices.BinarySearchFunc(t.kept, o, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.logReward, a.logReward), cmp.Compare(a.key, b.key))
	})
	if at == t.k {
		return
	}
	if len(t.kept) == t.k {
		o.slot = t.kept[t.k-1].slot
		t.kept = t.kept[:t.k-1]
	}
	t.states.CopyRow(o.slot, from, row)
	t.kept = slices.Insert(t.kept, at, o)
}

// Report describes what was added.
func (t *Top) Report() TopK {
	out := TopK{K: len(t.kept), Distinct: len(t.seen), LogReward: math.NaN(), Reward: math.NaN(), Diversity: math.NaN()}
	if out.K == 0 {
		return out
	}
	out.LogReward, out.Reward = 0, 0
	for _, o := range t.kept {
		out.LogReward += o.logReward / float64(out.K)
		out.Reward += math.Exp(o.logReward) / float64(out.K)
	}
	if t.marks.Features > 0 {
		marks := make([][]int32, out.K)
		for i, o := range t.kept {
			marks[i] = t.marks.Append(nil, t.states, o.slot)
		}
		out.Diversity = Diversity(&t.marks, marks)
	}
	return out
}

// Diversity is the mean Distance over all pairs of objects; NaN without any.
func Diversity(of *envs.Marks, marks [][]int32) float64 {
	sum, pairs := 0.0, 0
	for i, a := range marks {
		for _, b := range marks[:i] {
			sum += Distance(of, a, b)
			pairs++
		}
	}
	return sum / float64(pairs) // NaN for none
}

// Distance between two objects by their ascending marks, which are the active features
// unless the environment has others. Where those are tokens at positions it is Hamming's,
// as the share of the positions at which they differ, where all further marks, such as
// those of a condition, are one position more; otherwise Jaccard's: the share of the
// marks of either that are not of both. 0 for equal objects, at most 1.
func Distance(of *envs.Marks, a, b []int32) float64 {
	if of.Positions > 0 {
		end := int32(of.Positions * of.Vocabulary)
		split := func(f []int32) (tokens, rest []int32) {
			n, _ := slices.BinarySearch(f, end)
			return f[:n], f[n:]
		}
		tokensA, restA := split(a)
		tokensB, restB := split(b)
		n, all := differing(tokensA, tokensB, int32(of.Vocabulary)), of.Positions
		if of.Features > int(end) {
			all++
			if !slices.Equal(restA, restB) {
				n++
			}
		}
		return float64(n) / float64(all)
	}
	both := common(a, b)
	if either := len(a) + len(b) - both; either > 0 {
		return 1 - float64(both)/float64(either)
	}
	return 0
}

// differing counts the positions that hold different tokens of v, or in one of the
// two none.
func differing(a, b []int32, v int32) (n int) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0]/v < b[0]/v:
			a, n = a[1:], n+1
		case len(a) == 0 || b[0]/v < a[0]/v:
			b, n = b[1:], n+1
		default:
			if a[0] != b[0] {
				n++
			}
			a, b = a[1:], b[1:]
		}
	}
	return n
}

// common counts the elements of two ascending lists that are in both.
func common(a, b []int32) int {
	n := 0
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case b[0] < a[0]:
			b = b[1:]
		default:
			n++
			a, b = a[1:], b[1:]
		}
	}
	return n
}
