package losses

import (
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestLogZBounds: in expectation ELBO ≤ log Z ≤ EUBO, by the two KL
// divergences, and importance sampling is exact when everything is seen once
// per unit of probability.
func TestLogZBounds(t *testing.T) {
	m := smallTabular()
	exact := m.logZ()
	logP := make([]float64, len(m.logQ))
	var elbo, eubo float64
	for i, lq := range m.logQ {
		logP[i] = lq - m.delta[i] - exact
		one, err := ELBO(m.delta[i : i+1])
		if err != nil {
			t.Fatal(err)
		}
		elbo += math.Exp(lq) * one.Value
		eubo += math.Exp(logP[i]) * one.Value
	}
	reverse, _ := Between(reverseKL, logP, m.logQ)
	forward, _ := Between(forwardKL, logP, m.logQ)
	near(t, "ELBO", elbo, exact-reverse, 1e-12)
	near(t, "EUBO", eubo, exact+forward, 1e-12)
}

func TestImportanceLogZ(t *testing.T) {
	// Behaviour equal to the target up to its constant: every weight is Z.
	e, err := ImportanceLogZ([]float64{1, 2, 3, 0}, []float64{-1, 0, -2, 0}, []float64{-5, -3, -4, math.NaN()})
	if err != nil || e.N != 3 || math.Abs(e.Value-5) > 1e-15 || math.Abs(e.ESS-3) > 1e-12 || e.StdErr > 1e-7 || e.Estimator != "importance" {
		t.Errorf("%+v, %v", e, err)
	}
	// Weights 1 and 3: mean 2, sample variance 2, so the error of the log is √(2/2)/2.
	e, err = ImportanceLogZ([]float64{0, math.Log(3)}, []float64{0, 0}, []float64{0, 0})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "value", e.Value, math.Ln2, 1e-15)
	near(t, "ESS", e.ESS, 1.6, 1e-15)
	near(t, "standard error", e.StdErr, 0.5, 1e-14)
	if e, _ := ImportanceLogZ([]float64{900}, []float64{0}, []float64{-900}); e.Value != 1800 || !math.IsInf(e.StdErr, 1) {
		t.Errorf("one heavy sample: %+v", e)
	}
}

// TestImportanceSumsFollowTheOrder of what they are given in rounding only,
// over weights that no float64 could hold as they are.
func TestImportanceSumsFollowTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		logs := rapid.SliceOfN(rapid.Float64Range(-2000, 2000), 1, 50).Draw(t, "log-weights")
		var top float64
		for i, w := range logs {
			if i == 0 || w > top {
				top = w
			}
		}
		var sum, squares float64
		for _, w := range logs {
			r := math.Exp(w - top)
			sum += r
			squares += r * r
		}
		orders := [][]float64{logs, slices.Sorted(slices.Values(logs)), slices.Clone(logs)}
		slices.Reverse(orders[2])
		for i, order := range orders {
			var sums ImportanceSums
			for _, w := range order {
				sums.Add(w, 0, 0)
				sums.Add(0, 0, math.NaN()) // does not count
			}
			e, err := sums.LogZ()
			want := top + math.Log(sum/float64(len(logs)))
			if err != nil || e.N != len(logs) || math.Abs(e.Value-want) > 1e-12*math.Max(1, math.Abs(want)) ||
				math.Abs(e.ESS-sum*sum/squares) > 1e-12*e.ESS {
				t.Fatalf("order %d gives %+v, %v; want log Z %v and ESS %v", i, e, err, want, sum*sum/squares)
			}
		}
	})
}

func TestLogZPlain(t *testing.T) {
	e, err := EUBO([]float64{-1, -3})
	if err != nil || e.Value != 2 || math.Abs(e.StdErr-1) > 1e-15 || e.N != 2 || e.Estimator != "eubo" {
		t.Errorf("%+v, %v", e, err)
	}
	if LearnedLogZ(2) != (LogZ{Value: 2, Estimator: "learned"}) {
		t.Error("a given value changes")
	}
}

func TestLogZFaults(t *testing.T) {
	one, bad := []float64{0}, []float64{math.Inf(1)}
	faults := []func() error{
		func() error { _, err := ELBO(nil); return err },
		func() error { _, err := EUBO(bad); return err },
		func() error { _, err := ImportanceLogZ(one, one, nil); return err },
		func() error { _, err := ImportanceLogZ(bad, one, one); return err },
		func() error { _, err := ImportanceLogZ(one, one, []float64{math.NaN()}); return err },
		func() error { _, err := Between(reverseKL, one, nil); return err },
		func() error { _, err := Between(reverseKL, one, bad); return err },
	}
	for i, f := range faults {
		if err := f(); err == nil || i != 5 && !errors.Is(err, ErrInput) && !errors.Is(err, ErrNonFinite) {
			t.Errorf("case %d: %v", i, err)
		}
	}
}
