package metrics

import (
	"math"
	"math/rand/v2"
)

// crowded is how many samples for each object of the target the bootstrap needs: with
// fewer the frequencies are so far from the sampler's distribution that it sees but a
// part of their bias.
const crowded = 50

// widen replaces the bounds of a basic interval where samples are few. The plain
// distance is too large in expectation, so it bounds the true one from above, up to
// how much it varies; low bounds it from below.
func (i Interval) widen(low float64, replicates []float64, most float64) Interval {
	if math.IsNaN(i.Value) || math.IsInf(i.Plain, 0) {
		return i
	}
	mean := 0.0
	for _, r := range replicates {
		mean += r / float64(len(replicates))
	}
	const tail = (1 - Confidence) / 2
	i.High = min(max(i.High, i.Plain+mean-quantile(replicates, tail)), most)
	if math.IsNaN(low) { // of ratios beyond a float64
		low = 0
	}
	i.Low = max(0, min(low, i.Value))
	return i
}

// halves are lower bounds of the distances, in their order, that hold with the
// confidence of one side of an interval however few the samples: what one half of them
// says of q chooses the function of the distance's variational form,
//
//	TV        = max over sets A of q(A) − p(A)
//	JSD       = log 2 + ½ max over D of E_p log(1 − D) + E_q log D
//	KL(q‖p)   = max over f of E_q f − log E_p e^f
//	Hellinger = √(1 − ½ min over f > 0 of E_p f + E_q 1/f)
//	χ²(q‖p)   = max over f of 2 E_q f − E_p f² − 1
//
// and the other half estimates its mean under q. p is known.
func (b *bootstrap) halves(rnd *rand.Rand) (low [numCounted]float64) {
	n := len(b.draws)
	rest := n / 2 // of the second half
	if rest < 2 {
		return low
	}
	rnd.Shuffle(n, func(i, j int) { b.draws[i], b.draws[j] = b.draws[j], b.draws[i] })
	first := make([]float64, len(b.logP))
	for _, x := range b.draws[rest:] {
		first[x]++
	}
	// Of q the first half says (counts + m·p)/(all + m), which has all of p's objects.
	all := float64(n - rest)
	m := math.Sqrt(all)
	// Of the objects: 1 in A, log q/p, log 2D, −√(p/q), q/p.
	var in, ratio, log, root, times []float64
	pA, underP, met := 0.0, 0.0, 0.0
	both, square := 0.0, 0.0 // Σ √(pq), Σ q²/p
	for x, lp := range b.logP {
		p := math.Exp(lp)
		q := (first[x] + m*p) / (all + m)
		if q == 0 { // impossible in the target, and not in the first half
			q = 1 / (all + m)
		}
		inside := 0.0
		if first[x] > all*p {
			inside, pA = 1, pA+p
		}
		in, ratio, log = append(in, inside), append(ratio, math.Log(q)-lp), append(log, math.Log(2*q/(p+q)))
		root, times = append(root, -math.Sqrt(p/q)), append(times, q/p)
		both, square = both+math.Sqrt(p*q), square+q*q/p
		if p > 0 {
			underP += p * math.Log(2*p/(p+q))
		}
		met += p
	}
	unmet, share := max(0, 1-met), m/(all+m) // q = share·p there
	underP += unmet * math.Log(2/(1+share))
	both, square = both+unmet*math.Sqrt(share), square+unmet*share*share
	second := b.draws[:rest]
	tv := below(second, in) - pA
	return [numCounted]float64{
		tv, 2 * tv, (underP + below(second, log)) / 2, below(second, ratio),
		math.Sqrt(max(0, 1-(both-below(second, root))/2)), 2*below(second, times) - square - 1,
	}
}

// below is the mean of a value over draws, less 1.96 of its standard errors.
func below(draws []int32, value []float64) float64 {
	n, mean, squares := float64(len(draws)), 0.0, 0.0
	for _, x := range draws {
		mean += value[x] / n
	}
	for _, x := range draws {
		squares += float64((value[x] - mean) * (value[x] - mean))
	}
	return mean - 1.96*math.Sqrt(squares/(n-1)/n)
}
