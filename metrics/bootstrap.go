package metrics

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Interval is a distance that was estimated from counts. The plain distance of
// the frequencies is too large in expectation: distances are convex, and noise
// only adds to them. The bootstrap estimates by how much.
type Interval struct {
	Plain float64 `json:"plain"` // of the frequencies as they are
	// Value is Plain less its estimated bias: 2·Plain − mean of the replicates,
	// but not below 0.
	Value float64 `json:"value"`
	// Low and High bound the true distance with the confidence of the whole:
	// 2·Plain less the upper and the lower quantile of the replicates (the basic
	// bootstrap; Davison and Hinkley 1997, 5.2), inside the distance's range. Where
	// samples are few beside the objects they are other bounds, which hold there too:
	// see widen.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// MarshalJSON writes null for what is not finite.
func (i Interval) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Plain *float64 `json:"plain"`
		Value *float64 `json:"value"`
		Low   *float64 `json:"low"`
		High  *float64 `json:"high"`
	}{finite(i.Plain), finite(i.Value), finite(i.Low), finite(i.High)})
}

// Confidence is the level of the intervals of CompareCounts.
const Confidence = 0.95

// Counted are distances between a target p and a sampler q of which only counts
// are known. KL(p‖q) and χ²(p‖q) are missing: they are infinite as soon as one object
// has not been drawn, so counts do not estimate them.
//
// Read them against Floor, the TV that as many samples of the target itself
// would show. When TV is near the floor nothing can be said but that it is small;
// and where samples are few beside the objects, intervals are wide, and the values
// in them still too large.
type Counted struct {
	Samples   int64    `json:"samples"`
	TV        Interval `json:"tv"`
	L1        Interval `json:"l1"`
	JSD       Interval `json:"jsd"`
	ReverseKL Interval `json:"reverse_kl"` // KL(q‖p) of the frequencies q
	Hellinger Interval `json:"hellinger"`
	// Chi2Reverse is Neyman's χ²(q‖p).
	Chi2Reverse Interval `json:"chi2_reverse"`
	Floor       float64  `json:"floor"`
}

// CompareCounts compares counts of sampled objects with log-probabilities of the
// target, and draws replicates (at least 20) of the sample for the intervals.
// Equal streams give equal bits. No samples are an error.
func CompareCounts(logTarget []float64, counts []int64, replicates int, rnd *rand.Rand) (Counted, error) {
	e, err := EmpiricalTV(logTarget, counts)
	if err != nil {
		return Counted{}, err
	}
	if e.Samples == 0 {
		return Counted{}, fmt.Errorf("metrics: distances of no samples")
	}
	if replicates < 20 {
		return Counted{}, fmt.Errorf("metrics: %d bootstrap replicates; want at least 20", replicates)
	}
	b := bootstrap{n: float64(e.Samples)}
	for i, lp := range logTarget {
		if counts[i] == 0 {
			b.unseen += math.Exp(lp)
			continue
		}
		for range counts[i] {
			b.draws = append(b.draws, int32(len(b.logP)))
		}
		b.logP, b.counts = append(b.logP, lp), append(b.counts, counts[i])
	}
	plain := b.distances()
	all := [numCounted][]float64{}
	for range replicates {
		clear(b.counts)
		for range b.draws {
			b.counts[b.draws[rnd.IntN(len(b.draws))]]++
		}
		for k, d := range b.distances() {
			all[k] = append(all[k], d)
		}
	}
	out := Counted{Samples: e.Samples, Floor: e.Floor}
	few := e.Samples < crowded*int64(len(counts))
	var low [numCounted]float64
	if few {
		low = b.halves(rnd)
	}
	for k, into := range []*Interval{&out.TV, &out.L1, &out.JSD, &out.ReverseKL, &out.Hellinger, &out.Chi2Reverse} {
		*into = basic(plain[k], all[k], countedMax[k])
		if few {
			*into = into.widen(low[k], all[k], countedMax[k])
		}
	}
	return out, nil
}

// The distances of counts, and the largest value of each.
const numCounted = 6

var countedMax = [numCounted]float64{1, 2, math.Ln2, math.Inf(1), 1, math.Inf(1)}

// bootstrap holds the objects that were drawn; a replicate has no others.
type bootstrap struct {
	n      float64
	draws  []int32 // the sample: indices into logP
	logP   []float64
	counts []int64
	unseen float64 // target mass of the objects that were not drawn
}

// distances returns TV, L1, JSD, KL(q‖p), Hellinger and χ²(q‖p) of the present counts.
// An object that was not drawn adds p to L1 and p·log 2/2 to the JSD.
func (b *bootstrap) distances() (d [numCounted]float64) {
	l1, jsd, kl := b.unseen, b.unseen*math.Ln2/2, b.unseen
	hellinger, chi := b.unseen, b.unseen
	for i, lp := range b.logP {
		lq := math.Log(float64(b.counts[i]) / b.n)
		lm := logMean(lp, lq)
		l1 += math.Abs(math.Exp(lp) - math.Exp(lq))
		jsd += (excess(lp, lm) + excess(lq, lm)) / 2
		kl += excess(lq, lp)
		root := math.Exp(lp/2) - math.Exp(lq/2)
		hellinger += float64(root * root)
		chi += chi2(lq, lp)
	}
	return [numCounted]float64{l1 / 2, l1, jsd, kl, math.Sqrt(hellinger / 2), chi}
}

// basic is the bias-corrected value and the basic interval; it sorts replicates.
func basic(plain float64, replicates []float64, most float64) Interval {
	slices.Sort(replicates)
	mean := 0.0
	for _, r := range replicates {
		mean += r / float64(len(replicates))
	}
	at := func(level float64) float64 { return quantile(replicates, level) }
	clip := func(v float64) float64 { return min(max(v, 0), most) }
	const tail = (1 - Confidence) / 2
	return Interval{
		Plain: plain, Value: clip(2*plain - mean),
		Low: clip(2*plain - at(1-tail)), High: clip(2*plain - at(tail)),
	}
}

// quantile of sorted values, linearly interpolated.
func quantile(sorted []float64, level float64) float64 {
	at := level * float64(len(sorted)-1)
	i := min(int(at), len(sorted)-2)
	return sorted[i] + float64((at-float64(i))*(sorted[i+1]-sorted[i]))
}
