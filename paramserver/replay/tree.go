package replay

import (
	"math"
	"math/rand/v2"
)

// tree draws leaves in proportion to weights that are given as logarithms. Every
// node holds the log of the sum of the weights below it, so that no weight is
// too large or too small, and a changed leaf is summed up anew along its path:
// nothing is ever subtracted, and no error builds up.
type tree struct {
	leaves int       // a power of two
	node   []float64 // node[1] is the root, node[leaves+i] leaf i
}

// treeBytes is the memory of a tree that has room for n leaves.
func treeBytes(n int) int64 { return 2 * nodeBytes * int64(leavesFor(n)) }

func leavesFor(n int) int {
	leaves := 1
	for leaves < n {
		leaves *= 2
	}
	return leaves
}

// reset makes a tree of n leaves of no weight.
func (t *tree) reset(n int) {
	t.leaves = leavesFor(n)
	t.node = make([]float64, 2*t.leaves)
	for i := range t.node {
		t.node[i] = math.Inf(-1)
	}
}

// set gives leaf i a weight; -Inf is none.
func (t *tree) set(i int, logWeight float64) {
	at := t.leaves + i
	t.node[at] = logWeight
	for at >>= 1; at > 0; at >>= 1 {
		t.node[at] = logAdd(t.node[2*at], t.node[2*at+1])
	}
}

// draw returns a leaf with probability proportional to its weight. There must
// be one that has a weight.
func (t *tree) draw(r *rand.Rand) int {
	at := 1
	for at < t.leaves {
		left, right := t.node[2*at], t.node[2*at+1]
		// P(left) = 1/(1 + e^(right−left)), without the rounding of the sum.
		if math.IsInf(left, -1) || !math.IsInf(right, -1) && r.Float64()*(1+math.Exp(right-left)) >= 1 {
			at = 2*at + 1
		} else {
			at = 2 * at
		}
	}
	return at - t.leaves
}

// logAdd is log(e^a + e^b).
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// logWeight is exponent·logReward, kept finite.
func logWeight(exponent, logReward float64) float64 {
	const most = 1e300
	return math.Max(-most, math.Min(most, exponent*logReward))
}
