package replica

import (
	"maps"
	"slices"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// Chain is what a replica's hash chain was, by log index.
type Chain map[uint64]fsm.Hash

// Agreement is what a comparison of hash chains found.
type Agreement int

// Agreements.
const (
	// Agreed: nobody contradicts this replica where a majority of voters can tell.
	Agreed Agreement = iota
	// Diverged: a majority of voters holds another state than this replica.
	Diverged
	// Divided: voters hold different states, and no majority holds one of them.
	Divided
)

// Comparison is the result of Compare. Index and the counts say where it was
// found; they are 0 when all agree.
type Comparison struct {
	Agreement
	Index   uint64
	With    int // voters that hold what this replica holds, itself included
	Against int // voters that hold the majority's state, or anything else if there is none
}

// Compare judges the chains of the replicas that answered, by node ID, self's
// among them. Voters that did not answer, or have no chain at an index, count
// as neither; a majority is one of all voters. What this replica differs in comes
// before what others are divided on, and the lowest index before higher ones.
func Compare(self string, voters []string, chains map[string]Chain) Comparison {
	indices := map[uint64]bool{}
	for _, c := range chains {
		for i := range c {
			indices[i] = true
		}
	}
	divided := Comparison{}
	for _, index := range slices.Sorted(maps.Keys(indices)) {
		votes := map[fsm.Hash]int{}
		total, most := 0, 0
		for _, v := range voters {
			if h, ok := chains[v][index]; ok {
				votes[h]++
				total++
				most = max(most, votes[h])
			}
		}
		own, known := chains[self][index]
		switch {
		case len(votes) < 2 && (!known || total == votes[own]):
			continue
		case most > len(voters)/2:
			if known && votes[own] != most {
				return Comparison{Agreement: Diverged, Index: index, With: votes[own], Against: most}
			}
		case len(votes) > 1 && divided.Agreement == Agreed:
			divided = Comparison{Agreement: Divided, Index: index, With: votes[own], Against: total - votes[own]}
		}
	}
	return divided
}

// Divergence is the error of a replica that a comparison found to differ: it
// wraps ErrDiverged and ErrDamaged.
func Divergence(node string, c Comparison) error {
	return damaged("%w: node %s at log index %d, where %d voters agree with each other and %d with it", ErrDiverged, node, c.Index, c.Against, c.With)
}
