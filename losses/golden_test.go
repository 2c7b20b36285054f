package losses

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

type goldenFile struct {
	Losses map[string]struct {
		Delta, G, G1, G2 []float64
		Gradient         []float64 `json:"on_policy_gradient"`
		Divergence       *float64
		BatchNormaliser  *float64 `json:"batch_normaliser"`
	}
	Categorical struct {
		Logits    []float64
		LogReward []float64 `json:"log_reward"`
		LogZ      float64   `json:"log_z"`
	}
	BatchDeltas []float64 `json:"batch_deltas"`
}

func golden(t *testing.T) goldenFile {
	t.Helper()
	data, err := os.ReadFile("testdata/ftb.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenFile
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func mustParse(t testing.TB, text string) Divergence {
	t.Helper()
	d, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// near wants a relative error of at most tol; tiny covers rounding around 0.
func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	const tiny = 1e-40
	if !(math.Abs(got-want) <= tol*math.Abs(want)+tiny) {
		t.Errorf("%s = %.17g, want %.17g (relative error %.2g)", what, got, want, math.Abs(got/want-1))
	}
}

func TestGoldenValues(t *testing.T) {
	for name, row := range golden(t).Losses {
		d := mustParse(t, name)
		n := len(row.Delta)
		g, g1, g2 := make([]float64, n), make([]float64, n), make([]float64, n)
		Evaluate(d, row.Delta, g, g1, g2)
		for i, x := range row.Delta {
			at := name + " at " + formatNumber(x)
			near(t, "g of "+at, g[i], row.G[i], 1e-12)
			near(t, "g' of "+at, g1[i], row.G1[i], 1e-12)
			if d.Smooth() != (row.G2 != nil) {
				t.Fatalf("%s: Smooth is %v", name, d.Smooth())
			}
			if d.Smooth() {
				near(t, "g'' of "+at, g2[i], row.G2[i], 1e-12)
			}
		}
	}
}

func TestGoldenNormaliser(t *testing.T) {
	g := golden(t)
	for name, row := range g.Losses {
		d := mustParse(t, name)
		c := Optimal(d, g.BatchDeltas, nil)
		if row.BatchNormaliser == nil {
			near(t, "median", c, -(0.6293874338976888-0.00940831699656064)/2, 1e-15)
			continue
		}
		near(t, "c* of "+name, c, *row.BatchNormaliser, 1e-12)
		// The solver must agree with the closed forms.
		near(t, "solved c* of "+name, solve(d, g.BatchDeltas, -4, 3), *row.BatchNormaliser, 1e-12)
	}
}

// model returns log q, log p and the residuals with exact log Z.
func (g goldenFile) model() (logQ, logP, delta []float64) {
	logQ = logSoftmax(g.Categorical.Logits)
	for i, lr := range g.Categorical.LogReward {
		logP = append(logP, lr-g.Categorical.LogZ)
		delta = append(delta, logQ[i]-logP[i])
	}
	return logQ, logP, delta
}

func logSoftmax(logits []float64) []float64 {
	top := math.Inf(-1)
	for _, l := range logits {
		top = math.Max(top, l)
	}
	var sum float64
	for _, l := range logits {
		sum += math.Exp(l - top)
	}
	out := make([]float64, len(logits))
	for i, l := range logits {
		out[i] = l - top - math.Log(sum)
	}
	return out
}

// scoreGradient is Σ_i coef_i ∇_logits log q_i = coef − (Σ coef) q.
func scoreGradient(coef, logQ []float64) []float64 {
	var sum float64
	for _, c := range coef {
		sum += c
	}
	out := make([]float64, len(coef))
	for i, c := range coef {
		out[i] = c - sum*math.Exp(logQ[i])
	}
	return out
}

func TestGoldenDivergenceAndGradient(t *testing.T) {
	g := golden(t)
	logQ, logP, delta := g.model()
	for name, row := range g.Losses {
		d := mustParse(t, name)
		got, err := Between(d, logP, logQ)
		if err != nil {
			t.Fatal(err)
		}
		if row.Divergence != nil {
			near(t, "divergence "+name, got, *row.Divergence, 1e-12)
		}
		coef := make([]float64, len(delta))
		for i, x := range delta {
			coef[i] = math.Exp(logQ[i]) * d.G1(x)
		}
		for i, v := range scoreGradient(coef, logQ) {
			near(t, "gradient of "+name, v, row.Gradient[i], 1e-10)
		}
		// The theorem itself: it is the gradient of D_f, here by differences.
		if d.Smooth() {
			for i, want := range row.Gradient {
				numeric := derivative(func(x float64) float64 {
					logits := append([]float64(nil), g.Categorical.Logits...)
					logits[i] += x
					v, _ := Between(d, logP, logSoftmax(logits))
					return v
				}, 0)
				if math.Abs(numeric-want) > 1e-8 {
					t.Errorf("%s: ∂D/∂logit %d = %v, golden %v", name, i, numeric, want)
				}
			}
		}
	}
}

// derivative is a central difference with Richardson extrapolation.
func derivative(f func(float64) float64, x float64) float64 {
	const h = 2e-4
	d1 := (f(x+h) - f(x-h)) / (2 * h)
	d2 := (f(x+h/2) - f(x-h/2)) / h
	return (4*d2 - d1) / 3
}
