package losses

import (
	"math"
	"testing"
)

// The tests here enumerate whole batches over a small categorical model, so
// that expectations are exact and only the statement itself can be wrong.

// tabular is a small model with its target: log q, and δ with log Z = 0.
type tabular struct{ logQ, delta []float64 }

func smallTabular() tabular {
	logQ := logSoftmax([]float64{0.3, -0.5, 0.9, 0.1})
	logR := []float64{-0.8, 1.1, 0.2, 0.9}
	t := tabular{logQ: logQ}
	for i := range logQ {
		t.delta = append(t.delta, logQ[i]-logR[i])
	}
	return t
}

// logZ is the log of the total reward.
func (m tabular) logZ() float64 {
	var z float64
	for i, lq := range m.logQ {
		z += math.Exp(lq - m.delta[i])
	}
	return math.Log(z)
}

// divergenceGradient is ∇D_f over the logits, by the theorem at exact log Z.
func (m tabular) divergenceGradient(d Divergence) []float64 {
	coef := make([]float64, len(m.logQ))
	for i, x := range m.delta {
		coef[i] = math.Exp(m.logQ[i]) * d.G1(x+m.logZ())
	}
	return scoreGradient(coef, m.logQ)
}

// expectedGradient enumerates all batches of k draws and averages the gradient
// that the objective makes of each.
func (m tabular) expectedGradient(t *testing.T, tb *TB, k int) []float64 {
	t.Helper()
	n := len(m.logQ)
	draw := make([]int, k)
	in := &Input{LogPF: make([]float64, k), LogPB: make([]float64, k), LogReward: make([]float64, k), LogZ: m.logZ()}
	var out Output
	total := make([]float64, n)
	for {
		var logProb float64
		for j, i := range draw {
			in.LogPF[j], in.LogReward[j] = m.logQ[i], m.logQ[i]-m.delta[i]
			logProb += m.logQ[i]
		}
		if err := tb.Evaluate(0, in, &out); err != nil {
			t.Fatal(err)
		}
		coef := make([]float64, n)
		for j, i := range draw {
			coef[i] += out.W[j]
		}
		for i, v := range scoreGradient(coef, m.logQ) {
			total[i] += math.Exp(logProb) * v
		}
		j := 0
		for ; j < k; j++ {
			if draw[j]++; draw[j] < n {
				break
			}
			draw[j] = 0
		}
		if j == k {
			return total
		}
	}
}

func objective(t testing.TB, text string, n Normaliser) *TB {
	t.Helper()
	tb, err := NewTB(Config{Member: Fixed(mustParse(t, text)), Normaliser: n, Backward: Joint})
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func cosine(a, b []float64) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+a[i]*b[i], aa+a[i]*a[i], bb+b[i]*b[i]
	}
	return ab / math.Sqrt(aa*bb)
}

func wantVector(t *testing.T, what string, got, want []float64, scale, tol float64) {
	t.Helper()
	for i := range want {
		if math.Abs(got[i]-scale*want[i]) > tol {
			t.Errorf("%s: component %d = %v, want %v", what, i, got[i], scale*want[i])
		}
	}
}

func TestExpectedGradientLearned(t *testing.T) {
	m := smallTabular()
	for _, row := range Table() {
		got := m.expectedGradient(t, objective(t, row.Example, Learned), 3)
		wantVector(t, row.Example+" with exact log Z", got, m.divergenceGradient(mustParse(t, row.Example)), 1, 1e-12)
	}
}

// TestExpectedGradientExact: with log Z known, no trajectory touches another's
// weight, so the expectation is ∇D_f at any K, one included.
func TestExpectedGradientExact(t *testing.T) {
	m := smallTabular()
	for _, row := range Table() {
		for _, k := range []int{1, 2} {
			got := m.expectedGradient(t, objective(t, row.Example, Exact), k)
			wantVector(t, row.Example, got, m.divergenceGradient(mustParse(t, row.Example)), 1, 1e-12)
		}
	}
}

func TestExpectedGradientBatchMean(t *testing.T) {
	m := smallTabular()
	want := m.divergenceGradient(reverseKL)
	for _, k := range []int{2, 3, 5} {
		got := m.expectedGradient(t, objective(t, "reverse_kl", BatchMean), k)
		wantVector(t, "batch_mean", got, want, float64(k-1)/float64(k), 1e-12)
		// For reverse_kl the optimum is the mean.
		got = m.expectedGradient(t, objective(t, "reverse_kl", BatchOptimal), k)
		wantVector(t, "batch_optimal", got, want, float64(k-1)/float64(k), 1e-12)
	}
	// For other members the bias does not go away with the batch.
	got := m.expectedGradient(t, objective(t, "forward_kl", BatchMean), 6)
	if c := cosine(got, m.divergenceGradient(forwardKL)); c > 0.9999 {
		t.Errorf("batch_mean seems right for forward KL: cosine %v", c)
	}
}

func TestExpectedGradientLeaveOneOut(t *testing.T) {
	m := smallTabular()
	for _, text := range []string{"reverse_kl", "forward_kl", "hellinger", "pearson_chi2", "neyman_chi2", "alpha:0.75", "alpha:1.0001"} {
		want := m.divergenceGradient(mustParse(t, text))
		// Exact direction for every K. The length differs: log Z is replaced by
		// an estimate of E[e^{−bδ}], which only scales the gradient.
		for _, k := range []int{2, 3, 5} {
			got := m.expectedGradient(t, objective(t, text, LeaveOneOut), k)
			if c := cosine(got, want); c < 1-1e-9 {
				t.Errorf("leave_one_out %s at K = %d: cosine %v", text, k, c)
			}
		}
	}
}

func TestExpectedGradientBatchOptimal(t *testing.T) {
	m := smallTabular()
	for _, text := range []string{"forward_kl", "hellinger", "alpha:-0.5"} {
		want := m.divergenceGradient(mustParse(t, text))
		last := math.Inf(1)
		for _, k := range []int{4, 6, 8} {
			bias := 1 - cosine(m.expectedGradient(t, objective(t, text, BatchOptimal), k), want)
			if bias > 0.75*last || bias < 0 && bias > 1e-12 {
				t.Errorf("%s: the bias does not shrink with K: %v at %d after %v", text, bias, k, last)
			}
			last = bias
		}
	}
}

// TestPairs is the reason to refuse small groups: at K = 2 alpha:a and
// alpha:(2−a) have the same weights, tanh(b(δ1−δ2)/2)/b.
func TestPairs(t *testing.T) {
	for _, pair := range [][]float64{{0.3, -1.1}, {-5, 7}, {40, -40}, {1e-9, 2e-9}} {
		for _, a := range []float64{0, 0.5, 0.75, -1, 1} {
			b := 1 - a
			want := (pair[0] - pair[1]) / 2
			if b != 0 {
				want = math.Tanh(b*(pair[0]-pair[1])/2) / b
			}
			for _, alpha := range []float64{a, 2 - a} {
				d := mustParse(t, "alpha:"+formatNumber(alpha))
				c := Optimal(d, pair, nil)
				if got := d.G1(pair[0] + c); math.Abs(got-want) > 1e-12*math.Abs(want)+1e-15*math.Abs(pair[0]) {
					t.Errorf("alpha %v, δ = %v: weight %v, want %v", alpha, pair, got, want)
				}
			}
		}
	}
}

// TestRLOO: policy gradient with leave-one-out baseline and the KL inside the
// reward, A_i = r_i − mean_{j≠i} r_j with r = −δ, is −K/(K−1) times the weight
// of reverse_kl with batch_mean.
func TestRLOO(t *testing.T) {
	delta := golden(t).BatchDeltas
	k := float64(len(delta))
	tb := objective(t, "reverse_kl", BatchMean)
	out := evaluateDeltas(t, tb, delta)
	loo := evaluateDeltas(t, objective(t, "reverse_kl", LeaveOneOut), delta)
	var sum float64
	for _, x := range delta {
		sum += x
	}
	for i, x := range delta {
		advantage := -x + (sum-x)/(k-1)
		near(t, "RLOO", -advantage/k, out.W[i]*k/(k-1), 1e-6)
		near(t, "leave_one_out", loo.W[i], -advantage/k, 1e-12)
	}
}

// evaluateDeltas runs the objective on residuals given as log P_F alone.
func evaluateDeltas(t *testing.T, tb *TB, delta []float64) *Output {
	t.Helper()
	in := &Input{LogPF: delta, LogPB: make([]float64, len(delta)), LogReward: make([]float64, len(delta))}
	out := new(Output)
	if err := tb.Evaluate(0, in, out); err != nil {
		t.Fatal(err)
	}
	return out
}
