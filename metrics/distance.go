// Package metrics measures how far a model is from its target: exactly where
// the objects can be listed, by counts where they cannot.
package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// ErrLength says that two distributions are not over the same objects.
var ErrLength = errors.New("distributions of different lengths")

// Distances compares a target p with a model q over the same objects. Natural
// logarithms throughout. JSON has null where a distance is infinite.
type Distances struct {
	TV        float64 `json:"tv"`         // total variation, ½ Σ|p−q|, in [0, 1]
	L1        float64 `json:"l1"`         // Σ|p−q| = 2·TV
	ForwardKL float64 `json:"forward_kl"` // KL(p‖q) = Σ p log(p/q), as in the forward_kl loss
	ReverseKL float64 `json:"reverse_kl"` // KL(q‖p) = Σ q log(q/p)
	JSD       float64 `json:"jsd"`        // Jensen–Shannon: ½ KL(p‖m) + ½ KL(q‖m), m = (p+q)/2, in [0, log 2]
	Hellinger float64 `json:"hellinger"`  // √(½ Σ(√p−√q)²), in [0, 1]
	Chi2      float64 `json:"chi2"`       // Pearson's χ²(p‖q) = Σ(p−q)²/q: twice the divergence of pearson_chi2, large where q misses what p has
	// Chi2Reverse is Neyman's χ²(q‖p) = Σ(p−q)²/p: twice the divergence of
	// neyman_chi2, large where q has what p lacks.
	Chi2Reverse float64 `json:"chi2_reverse"`
}

// Compare returns the distances between two distributions given by the
// log-probabilities of the objects (−Inf for none).
func Compare(target, model []float64) (Distances, error) {
	if len(target) != len(model) {
		return Distances{}, fmt.Errorf("%w: %d and %d", ErrLength, len(target), len(model))
	}
	var d Distances
	hellinger := 0.0
	for i, lp := range target {
		lq := model[i]
		p, q := math.Exp(lp), math.Exp(lq)
		d.L1 += math.Abs(p - q)
		d.ForwardKL += excess(lp, lq)
		d.ReverseKL += excess(lq, lp)
		lm := logMean(lp, lq)
		d.JSD += (excess(lp, lm) + excess(lq, lm)) / 2
		root := math.Exp(lp/2) - math.Exp(lq/2)
		hellinger += root * root
		d.Chi2 += chi2(lp, lq)
		d.Chi2Reverse += chi2(lq, lp)
	}
	d.TV = d.L1 / 2
	d.Hellinger = math.Sqrt(hellinger / 2)
	return d, nil
}

// excess is p log(p/q) − p + q: the share of one object in KL(p‖q) written so
// that every share is ≥ 0. The added terms cancel over all objects, and with
// them the first-order effect of distributions that add up to 1 only in float32.
func excess(lp, lq float64) float64 {
	p, q := math.Exp(lp), math.Exp(lq)
	switch {
	case p == 0:
		return q
	case math.IsInf(lq, -1):
		return math.Inf(1)
	}
	if t := lq - lp; math.Abs(t) < 1 {
		return p * (math.Expm1(t) - t) // q = p·e^t, without cancellation near t = 0
	}
	return p*(lp-lq) - p + q
}

// chi2 is (p−q)²/q.
func chi2(lp, lq float64) float64 {
	switch {
	case math.IsInf(lp, -1):
		return math.Exp(lq)
	case math.IsInf(lq, -1):
		return math.Inf(1)
	}
	r := math.Expm1(lp - lq) // p/q − 1
	if math.IsInf(r, 1) {
		return math.Exp(2*lp - lq)
	}
	return math.Exp(lq) * r * r
}

// logMean is log((e^a + e^b)/2).
func logMean(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(a, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a)) - math.Ln2
}

// MarshalJSON writes null for infinite distances, which JSON has no number for.
func (d Distances) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		TV          *float64 `json:"tv"`
		L1          *float64 `json:"l1"`
		ForwardKL   *float64 `json:"forward_kl"`
		ReverseKL   *float64 `json:"reverse_kl"`
		JSD         *float64 `json:"jsd"`
		Hellinger   *float64 `json:"hellinger"`
		Chi2        *float64 `json:"chi2"`
		Chi2Reverse *float64 `json:"chi2_reverse"`
	}{
		finite(d.TV), finite(d.L1), finite(d.ForwardKL), finite(d.ReverseKL),
		finite(d.JSD), finite(d.Hellinger), finite(d.Chi2), finite(d.Chi2Reverse),
	})
}

// finite is nil for NaN and infinities.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
