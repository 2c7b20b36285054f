package ising

import (
	"math"
	"math/bits"
)

// widest is the longest row that log Z is computed for: 4,096 states of a row.
const widest = 12

// strongest bounds the exponents of a step of the transfer matrix: each weight that
// counts is within e^±strongest of the largest, which a float64 holds.
const strongest = 600

// logZ is log Σ_x R(x) of the torus by the transfer matrix: with T[a][b] the weight
// of a row b below a row a (and of the bonds inside b), Z = trace T^L1 =
// Σ_s (T^L1)[s][s]. T^L1 is applied to one unit vector for each class of first rows
// that are equal up to a rotation, a reflection or a flip of all spins, none of which
// changes the weight. T itself is never formed: a row is put on spin by spin.
// false when no side has at most widest spins.
//
// A row costs at most all of its bonds and all of those to the row before, e^−2|k|
// each. Where that is beyond a float64, only the states of lowest energy count, and
// without frustration there are two of them. With it, false: how many states share
// the broken bonds is not counted here.
func logZ(l1, l2 int, sigma float64) (float64, bool) {
	if l1 < l2 {
		l1, l2 = l2, l1 // rows are the shorter side
	}
	if l2 > widest {
		return 0, false
	}
	k, bonds := 2*sigma, float64(2*l1*l2)
	if 4*math.Abs(k)*float64(l2) > strongest {
		return math.Abs(k)*bonds + math.Ln2, sigma > 0 || l1%2 == 0 && l2%2 == 0
	}
	states := 1 << l2
	inside := make([]float64, states) // weight of a row's own bonds, scaled
	for s := range inside {
		unequal := bits.OnesCount(uint(s ^ rotated(s, l2)))
		inside[s] = math.Exp(k*float64(l2-2*unequal) - math.Abs(k)*float64(l2))
	}
	same, other := math.Exp(k-math.Abs(k)), math.Exp(-k-math.Abs(k)) // of a bond, scaled
	v := make([]float64, states)
	top, sum := math.Inf(-1), 0.0 // Z = e^top × sum
	for first, size := range classes(l2) {
		if size == 0 {
			continue
		}
		clear(v)
		v[first] = 1
		scale := 0.0
		for range l1 {
			for spin := range l2 {
				bit := 1 << spin
				for s := range v {
					if s&bit == 0 {
						a, b := v[s], v[s|bit]
						v[s], v[s|bit] = same*a+other*b, other*a+same*b
					}
				}
			}
			largest := 0.0
			for s := range v {
				v[s] *= inside[s]
				largest = max(largest, v[s])
			}
			for s := range v {
				v[s] /= largest
			}
			scale += math.Log(largest)
		}
		if v[first] == 0 {
			continue // underflow: 300 orders of magnitude below the largest
		}
		if term := scale + math.Log(v[first]) + math.Log(float64(size)); term > top {
			sum = sum*math.Exp(top-term) + 1
			top = term
		} else {
			sum += math.Exp(term - top)
		}
	}
	return top + math.Log(sum) + math.Abs(k)*bonds, true
}

// rotated is the row with every spin one place on.
func rotated(s, n int) int { return (s<<1 | s>>(n-1)) & (1<<n - 1) }

// classes gives, at the smallest row of each class of equivalent ones, the size of
// the class, and 0 elsewhere.
func classes(n int) []int {
	out := make([]int, 1<<n)
	for s := range out {
		least := s
		for range n {
			s = rotated(s, n)
			mirrored := int(bits.Reverse(uint(s)) >> (bits.UintSize - n))
			flip := 1<<n - 1
			least = min(least, s, s^flip, mirrored, mirrored^flip)
		}
		out[least]++
	}
	return out
}
