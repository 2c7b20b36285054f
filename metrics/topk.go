package metrics

import (
	"cmp"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
)

// TopK describes the best distinct objects of a sample.
type TopK struct {
	K        int `json:"k"`        // objects, fewer where there are not that many distinct ones
	Distinct int `json:"distinct"` // objects in the whole sample
	// LogReward is the mean log R of the K, Reward the mean R.
	LogReward float64 `json:"log_reward"`
	Reward    float64 `json:"reward"`
	// Diversity is the mean distance of two of the K, in [0, 1]: see Distance.
	// NaN for fewer than two objects, and where objects have no sparse features.
	Diversity float64 `json:"diversity"`
}

// BestOf picks the k best distinct objects, by log-reward, of the first
// len(logReward) rows of states, ties by the environment's key.
func BestOf(env envs.Env, states envs.States, logReward []float64, k int) TopK {
	type object struct {
		key string
		row int
	}
	var all []object
	seen := map[string]bool{}
	var key []byte
	for row := range logReward {
		if key = states.AppendKey(key[:0], row); !seen[string(key)] {
			o := object{string(key), row}
			seen[o.key] = true
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b object) int {
		return cmp.Or(cmp.Compare(logReward[b.row], logReward[a.row]), cmp.Compare(a.key, b.key))
	})
	best := all[:min(max(k, 0), len(all))]
	out := TopK{K: len(best), Distinct: len(all), LogReward: math.NaN(), Reward: math.NaN(), Diversity: math.NaN()}
	if len(best) == 0 {
		return out
	}
	out.LogReward, out.Reward = 0, 0
	features := make([][]int32, len(best))
	spec := env.Spec()
	for i, o := range best {
		out.LogReward += logReward[o.row] / float64(len(best))
		out.Reward += math.Exp(logReward[o.row]) / float64(len(best))
		if spec.Features > 0 {
			features[i] = states.AppendFeatures(nil, o.row)
		}
	}
	if spec.Features > 0 {
		out.Diversity = Diversity(&spec, features)
	}
	return out
}

// Diversity is the mean Distance over all pairs of objects; NaN without any.
func Diversity(spec *envs.Spec, features [][]int32) float64 {
	sum, pairs := 0.0, 0
	for i, a := range features {
		for _, b := range features[:i] {
			sum += Distance(spec, a, b)
			pairs++
		}
	}
	return sum / float64(pairs) // NaN for none
}

// Distance between two objects by their ascending active features. Where states
// are sequences of tokens it is Hamming's, as the share of the positions at which
// they differ; otherwise Jaccard's: the share of the features of either that are
// not of both. 0 for equal objects, at most 1.
func Distance(spec *envs.Spec, a, b []int32) float64 {
	if spec.Positions > 0 {
		end := int32(spec.Positions * spec.Vocabulary)
		tokens := func(f []int32) []int32 { // what comes after them is not the sequence
			n, _ := slices.BinarySearch(f, end)
			return f[:n]
		}
		return differing(tokens(a), tokens(b), spec)
	}
	both := common(a, b)
	if either := len(a) + len(b) - both; either > 0 {
		return 1 - float64(both)/float64(either)
	}
	return 0
}

// differing is the share of the positions that hold different tokens, or in one
// of the two none.
func differing(a, b []int32, spec *envs.Spec) float64 {
	v, n := int32(spec.Vocabulary), 0
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
	return float64(n) / float64(spec.Positions)
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
