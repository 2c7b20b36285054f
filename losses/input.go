package losses

import (
	"fmt"
	"math"
	"slices"
)

// check verifies lengths, group numbers and that every score is finite.
func (in *Input) check(groups int) error {
	n := len(in.LogPF)
	if n == 0 {
		return fmt.Errorf("%w: no trajectories", ErrInput)
	}
	if len(in.LogPB) != n || len(in.LogReward) != n ||
		!emptyOr(len(in.LogBehaviour), n) || !emptyOr(len(in.Groups), n) || !emptyOr(len(in.Lag), n) || !emptyOr(len(in.Weights), n) {
		return fmt.Errorf("%w: slices of %d, %d, %d, %d, %d, %d and %d for log P_F, log P_B, log R, log behaviour, groups, lag and weights",
			ErrInput, n, len(in.LogPB), len(in.LogReward), len(in.LogBehaviour), len(in.Groups), len(in.Lag), len(in.Weights))
	}
	if !isFinite(in.LogZ) {
		return fmt.Errorf("losses: log Z = %v: %w", in.LogZ, ErrNonFinite)
	}
	for i := range n {
		switch {
		case !isFinite(in.LogPF[i]):
			return nonFinite(i, "log P_F", in.LogPF[i])
		case !isFinite(in.LogPB[i]):
			return nonFinite(i, "log P_B", in.LogPB[i])
		case !isFinite(in.LogReward[i]):
			return nonFinite(i, "log R", in.LogReward[i])
		}
	}
	for i, v := range in.LogBehaviour {
		if math.IsInf(v, 0) { // NaN is legal: none
			return nonFinite(i, "log behaviour", v)
		}
	}
	for i, g := range in.Groups {
		if g < 0 || int(g) >= groups {
			return fmt.Errorf("%w: trajectory %d is in group %d of %d", ErrInput, i, g, groups)
		}
	}
	return nil
}

func emptyOr(length, n int) bool { return length == 0 || length == n }

func nonFinite(i int, what string, v float64) error {
	return fmt.Errorf("losses: trajectory %d: %s = %v: %w", i, what, v, ErrNonFinite)
}

// grouping holds the rows of a batch sorted by group, in their order within
// each, and their residuals in that order.
type grouping struct {
	start   []int // group g owns start[g]:start[g+1]
	rows    []int
	delta   []float64
	weight  []float64 // empty: all alike
	scratch []float64
}

// sort is a counting sort, so it is stable and needs no comparison.
func (gr *grouping) sort(ids []int32, n, groups int, delta []float64) {
	gr.start = slices.Grow(gr.start[:0], groups+2)[:groups+2]
	gr.rows = slices.Grow(gr.rows[:0], n)[:n]
	gr.delta, gr.scratch = resize(gr.delta, n), resize(gr.scratch, n)
	clear(gr.start)
	for i := range n {
		gr.start[idOf(ids, i)+2]++
	}
	for g := 2; g < len(gr.start); g++ {
		gr.start[g] += gr.start[g-1]
	}
	for i := range n { // start[g+1] walks from the begin of g to its end
		at := &gr.start[idOf(ids, i)+1]
		gr.rows[*at], gr.delta[*at] = i, delta[i]
		*at++
	}
}

func idOf(ids []int32, i int) int {
	if len(ids) == 0 {
		return 0
	}
	return int(ids[i])
}

func (gr *grouping) size(g int) int { return gr.start[g+1] - gr.start[g] }

func (gr *grouping) group(g int) (rows []int, delta, scratch []float64) {
	a, b := gr.start[g], gr.start[g+1]
	return gr.rows[a:b], gr.delta[a:b], gr.scratch[a:b:b]
}

// weigh puts the weights of the trajectories, if any, into the order of rows.
func (gr *grouping) weigh(weights []float64) {
	gr.weight = gr.weight[:0]
	if len(weights) == 0 {
		return
	}
	for _, row := range gr.rows {
		gr.weight = append(gr.weight, weights[row])
	}
}

// weights are those of a group, nil when all trajectories count alike.
func (gr *grouping) weights(g int) []float64 {
	if len(gr.weight) == 0 {
		return nil
	}
	return gr.weight[gr.start[g]:gr.start[g+1]]
}
