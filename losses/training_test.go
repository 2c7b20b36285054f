package losses

import (
	"math"
	"testing"
)

// TestMinimiserIsTheTarget trains a tabular model with a learned log Z under
// on-policy, uniform and stale behaviour (expectations, no sampling): each
// member reaches the target from each, because the model can represent it.
func TestMinimiserIsTheTarget(t *testing.T) {
	logR := []float64{-0.8, 1.1, 0.2, 0.9, -0.4}
	var z float64
	for _, r := range logR {
		z += math.Exp(r)
	}
	specs := []string{
		"reverse_kl", "forward_kl,tail:5", "hellinger", "alpha:0.75", "pearson_chi2,tail:3", "neyman_chi2,tail:3", "jeffreys", "jensen_shannon",
		"shifted_cosh", "triangular", "huber:1", "log_cosh", "forward_kl,temper:0.5", "custom:f2=1/u",
	}
	const lag = 20
	behaviours := map[string]func(history [][]float64) []float64{
		"on-policy": func(h [][]float64) []float64 { return h[len(h)-1] },
		"uniform":   func([][]float64) []float64 { return make([]float64, len(logR)) },
		"stale":     func(h [][]float64) []float64 { return h[max(0, len(h)-1-lag)] },
	}
	for _, text := range specs {
		d := mustParse(t, text)
		for name, behaviour := range behaviours {
			logits, logZ := []float64{0.5, -0.5, 1, 0, -1}, 0.0
			var history [][]float64
			for range 4000 {
				history = append(history, append([]float64(nil), logits...))
				logQ, logMu := logSoftmax(logits), logSoftmax(behaviour(history))
				coef, gradZ := make([]float64, len(logR)), 0.0
				for i := range logR {
					coef[i] = math.Exp(logMu[i]) * d.G1(logZ+logQ[i]-logR[i])
					gradZ += coef[i]
				}
				for i, v := range scoreGradient(coef, logQ) {
					logits[i] -= 0.2 * v
				}
				logZ -= 0.2 * gradZ
			}
			for i, lq := range logSoftmax(logits) {
				if math.Abs(math.Exp(lq)-math.Exp(logR[i])/z) > 1e-4 {
					t.Errorf("%s, %s: q[%d] = %v, target %v", text, name, i, math.Exp(lq), math.Exp(logR[i])/z)
				}
			}
			if math.Abs(logZ-math.Log(z)) > 1e-3 {
				t.Errorf("%s, %s: log Z = %v, exact %v", text, name, logZ, math.Log(z))
			}
		}
	}
}

// hump is a discretised Gaussian on a fixed grid, as log-probabilities.
func hump(mean, width float64) []float64 {
	logits := make([]float64, gridPoints)
	for i := range logits {
		z := (gridAt(i) - mean) / width
		logits[i] = -z * z / 2
	}
	return logSoftmax(logits)
}

const gridPoints = 120 // even, so that no point lies at 0

func gridAt(i int) float64 { return -9 + 18*float64(i)/(gridPoints-1) }

// twoHumps is an even mixture of two unit Gaussians. With uneven masses a
// covering fit also shifts its mean to the heavier side, by an amount that
// depends on alpha, and the mass left of 0 would no longer measure covering.
func twoHumps(separation float64) []float64 {
	a, b := hump(-separation/2, 1), hump(separation/2, 1)
	out := make([]float64, gridPoints)
	for i := range out {
		out[i] = math.Log(0.5*math.Exp(a[i]) + 0.5*math.Exp(b[i]))
	}
	return out
}

// smallerHump is the lesser of the model's masses left and right of 0.
func smallerHump(logQ []float64) float64 {
	var left float64
	for i, lq := range logQ {
		if gridAt(i) < 0 {
			left += math.Exp(lq)
		}
	}
	return math.Min(left, 1-left)
}

// fit descends E_q[g′ ∇log q], the on-policy gradient with exact log Z, over
// mean and log width, from a start on the left hump.
func fit(d Divergence, logP []float64, start float64) (mean, width float64) {
	mean, s := start, math.Log(1.2)
	for range 2000 {
		logQ := hump(mean, math.Exp(s))
		var gm, gs float64
		// ∇log q of the discretised hump: score minus its expectation.
		var em, es float64
		for pass := range 2 {
			for i, lq := range logQ {
				z := (gridAt(i) - mean) / math.Exp(s)
				sm, ss := z/math.Exp(s), z*z
				if pass == 0 {
					em, es = em+math.Exp(lq)*sm, es+math.Exp(lq)*ss
					continue
				}
				w := math.Exp(lq) * d.G1(lq-logP[i])
				gm, gs = gm+w*(sm-em), gs+w*(ss-es)
			}
		}
		norm := math.Max(1, math.Hypot(gm, gs))
		mean, s = mean-0.1*gm/norm, s-0.03*gs/norm
	}
	return mean, math.Exp(s)
}

// minimiser searches D_f directly: a coarse grid, then a finer one around the best.
func minimiser(t *testing.T, d Divergence, logP []float64) (mean, width float64) {
	t.Helper()
	best, step := math.Inf(1), 0.4
	bestMean, bestS := 0.0, 0.6
	span := 12
	for range 5 {
		m0, s0 := bestMean, bestS
		for i := -span; i <= span; i++ {
			for j := -span / 2; j <= span/2; j++ {
				m, s := m0+float64(i)*step, s0+float64(j)*step/3
				v, err := Between(d, logP, hump(m, math.Exp(s)))
				if err != nil {
					t.Fatal(err)
				}
				if v < best {
					best, bestMean, bestS = v, m, s
				}
			}
		}
		step, span = step/3, 4
	}
	return bestMean, math.Exp(bestS)
}

// TestDirection: one hump fitted to two covers less and less of both as alpha
// rises, on-policy, beside the deterministic minimiser of D_f. The slack is
// for the minimiser's grid.
func TestDirection(t *testing.T) {
	const slack = 1e-4
	alphas := []float64{-0.5, 0, 0.5, 1, 1.5}
	for _, separation := range []float64{2, 5, 6, 7} {
		logP := twoHumps(separation)
		var fitted, best []float64
		for i, a := range alphas {
			d := mustParse(t, "alpha:"+formatNumber(a))
			fitted = append(fitted, smallerHump(hump(fit(d, logP, -separation/2))))
			best = append(best, smallerHump(hump(minimiser(t, d, logP))))
			t.Logf("separation %v, alpha %4.1f: on-policy fit %.4f, minimiser %.4f", separation, a, fitted[i], best[i])
			if i > 0 && (fitted[i] > fitted[i-1]+slack || best[i] > best[i-1]+slack) {
				t.Errorf("separation %v: the smaller mass rises at alpha %v: fit %v, minimiser %v", separation, a, fitted, best)
			}
		}
		if last := len(alphas) - 1; separation >= 6 && (fitted[0] < 0.4 || fitted[last] > 0.1 || best[0] < 0.4 || best[last] > 0.1) {
			t.Errorf("separation %v: no contrast between covering and seeking: fit %v, minimiser %v", separation, fitted, best)
		}
	}
}
