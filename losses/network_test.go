package losses_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/losses"
)

// rounding is what float32 scores and gradients may be off, relative to the
// length of the gradient.
const rounding = 2e-5

func member(t *testing.T, text string) losses.Divergence {
	t.Helper()
	d, err := losses.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func trajectoryBalance(t *testing.T, text string, n losses.Normaliser, b losses.Backward) *losses.TB {
	t.Helper()
	tb, err := losses.NewTB(losses.Config{Member: losses.Fixed(member(t, text)), Normaliser: n, Backward: b, RunningDecay: 1 - 1e-9})
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// family is every member of the table, and members with modifiers or a formula.
func family() []string {
	var out []string
	for _, row := range losses.Table() {
		out = append(out, row.Example)
	}
	return append(out, "forward_kl,tail:0.5", "neyman_chi2,tail:1", "hellinger,temper:0.5",
		"alpha:0.25,temper:2,tail:1", "custom:g1=tanh(delta)", "custom:f2=4/(1+u)^2/u")
}

// divergenceSlope is ∇ D_f(p‖q) over the network's parameters by differences.
func divergenceSlope(t *testing.T, e *enumerated, d losses.Divergence) []float64 {
	t.Helper()
	target := e.target()
	return e.slope(func(logPF, _ []float64) float64 {
		v, err := losses.Between(d, target, logPF)
		if err != nil {
			t.Fatal(err)
		}
		return v
	})
}

// TestOnPolicyGradientIsThatOfTheDivergence is the theorem of f-TB on a real
// environment and through the real network: with exact log Z and a fixed P_B,
// E_q[g'(δ) ∇ log q] = ∇ D_f(p‖q) over trajectories.
func TestOnPolicyGradientIsThatOfTheDivergence(t *testing.T) {
	e := enumerate(t, 4, true)
	if n := len(e.logReward); n != 69 {
		t.Fatalf("%d trajectories, a 4×4 grid has C(8,4) − 1 = 69", n)
	}
	for _, text := range family() {
		if strings.HasPrefix(text, "custom:") {
			continue // its f is an integral: the grid with five trajectories, below, is enough
		}
		w, _ := e.all(t, trajectoryBalance(t, text, losses.Learned, losses.Uniform), e.probabilities())
		wantGradient(t, text, e.backprop(t, w, nil), divergenceSlope(t, e, member(t, text)), 1, rounding)
	}
}

// TestWrongLogZTurnsTheGradient: for the alpha family a constant error of log Z
// keeps the direction, for other members it does not.
func TestWrongLogZTurnsTheGradient(t *testing.T) {
	e := enumerate(t, 4, true)
	exact := e.logZ
	for text, keeps := range map[string]bool{
		"forward_kl": true, "hellinger": true, "reverse_kl": true, "neyman_chi2": true,
		"huber:1": false, "log_cosh": false, "triangular": false, "jensen_shannon": false,
	} {
		want := divergenceSlope(t, e, member(t, text))
		e.logZ = exact + 3
		w, _ := e.all(t, trajectoryBalance(t, text, losses.Learned, losses.Uniform), e.probabilities())
		e.logZ = exact
		if c := cosine(e.backprop(t, w, nil), want); keeps != (c > 1-1e-6) {
			t.Errorf("%s with log Z off by 3: cosine %v", text, c)
		}
	}
}

// TestOffPolicyGradientIsThatOfTheLoss: at a fixed behaviour μ the coefficients
// are the gradient of E_μ[g(δ)] in both policies.
func TestOffPolicyGradientIsThatOfTheLoss(t *testing.T) {
	e := enumerate(t, 4, false)
	mu := make([]float64, len(e.logReward))
	for i := range mu {
		mu[i] = 2 * float64(i+1) / float64(len(mu)*(len(mu)+1)) // nothing like the model
	}
	for _, text := range family() {
		d := member(t, text)
		w, wb := e.all(t, trajectoryBalance(t, text, losses.Learned, losses.Joint), mu)
		want := e.slope(func(logPF, logPB []float64) float64 {
			sum := 0.0
			for i, p := range mu {
				sum += p * d.G(e.logZ+logPF[i]-e.logReward[i]-logPB[i])
			}
			return sum
		})
		wantGradient(t, text, e.backprop(t, w, wb), want, 1, rounding)
	}
}

// TestLearnedBackwardPolicy: P_B receives ∇_φ E_q[g(δ)] at fixed q.
func TestLearnedBackwardPolicy(t *testing.T) {
	e := enumerate(t, 4, false)
	q := e.probabilities()
	// meanOver is ∇ E_q[f(log P_B)] over the parameters of P_B.
	meanOver := func(f func(i int, logPB float64) float64) []float64 {
		return e.slope(func(_, logPB []float64) float64 {
			sum := 0.0
			for i, p := range q {
				sum += p * f(i, logPB[i])
			}
			return sum
		})
	}
	for _, text := range family() {
		d := member(t, text)
		_, wb := e.all(t, trajectoryBalance(t, text, losses.Learned, losses.Joint), q)
		want := meanOver(func(i int, logPB float64) float64 { return d.G(e.logZ + e.logPF[i] - e.logReward[i] - logPB) })
		wantGradient(t, "joint "+text, e.backprop(t, nil, wb), want, 1, rounding)
	}
	likelihood := meanOver(func(_ int, logPB float64) float64 { return -logPB })
	_, wb := e.all(t, trajectoryBalance(t, "hellinger", losses.Learned, losses.MaxLikelihood), q)
	wantGradient(t, "max_likelihood", e.backprop(t, nil, wb), likelihood, 1, rounding)
	// Forward KL with exact log Z is maximum likelihood of P_B on P_F's trajectories.
	_, wb = e.all(t, trajectoryBalance(t, "forward_kl", losses.Learned, losses.Joint), q)
	wantGradient(t, "joint forward_kl", e.backprop(t, nil, wb), likelihood, 1, rounding)
	for _, b := range []losses.Backward{losses.Frozen, losses.Uniform} {
		if _, wb = e.all(t, trajectoryBalance(t, "hellinger", losses.Learned, b), q); length(wb) != 0 {
			t.Errorf("%s: P_B has weights %v", b, wb)
		}
	}
}

// TestExpectedBatchGradients enumerates every batch of K trajectories that the
// network may draw from a grid with five, for each normaliser.
func TestExpectedBatchGradients(t *testing.T) {
	e := enumerate(t, 2, true)
	gradient := func(text string, n losses.Normaliser, k int) []float64 {
		return e.backprop(t, e.expected(t, trajectoryBalance(t, text, n, losses.Uniform), k, nil), nil)
	}
	alphas := []string{"reverse_kl", "forward_kl", "hellinger", "pearson_chi2", "neyman_chi2", "alpha:0.75"}

	for _, text := range family() {
		want := divergenceSlope(t, e, member(t, text))
		wantGradient(t, "learned "+text, gradient(text, losses.Learned, 3), want, 1, rounding)
	}
	reverse := divergenceSlope(t, e, member(t, "reverse_kl"))
	for _, k := range []int{2, 3, 4, 8} {
		shrunk := float64(k-1) / float64(k)
		wantGradient(t, "batch_mean", gradient("reverse_kl", losses.BatchMean, k), reverse, shrunk, rounding)
		wantGradient(t, "batch_optimal of reverse_kl", gradient("reverse_kl", losses.BatchOptimal, k), reverse, shrunk, rounding)
	}
	for _, text := range alphas {
		want := divergenceSlope(t, e, member(t, text))
		for _, k := range []int{2, 3, 4, 8} {
			if c := cosine(gradient(text, losses.LeaveOneOut, k), want); c < 1-1e-8 {
				t.Errorf("leave_one_out %s at K = %d: cosine %v", text, k, c)
			}
		}
	}
	// A running average that has settled at the exact log Z stays there.
	tb := trajectoryBalance(t, "forward_kl", losses.Running, losses.Uniform)
	settled := func() {
		if err := tb.Restore([]float64{e.logZ, 1}); err != nil {
			t.Fatal(err)
		}
	}
	wantGradient(t, "running forward_kl", e.backprop(t, e.expected(t, tb, 4, settled), nil),
		divergenceSlope(t, e, member(t, "forward_kl")), 1, rounding)
}

// TestBatchOptimalBias: the fitted constant bends the expected gradient of
// members other than reverse_kl, less and less as K grows; K = 2 is refused.
func TestBatchOptimalBias(t *testing.T) {
	e := enumerate(t, 2, true)
	for _, text := range []string{"forward_kl", "hellinger", "pearson_chi2"} {
		want := divergenceSlope(t, e, member(t, text))
		tb := trajectoryBalance(t, text, losses.BatchOptimal, losses.Uniform)
		var cosines []float64
		last := math.Inf(1)
		for _, k := range []int{4, 8, 16} {
			c := cosine(e.backprop(t, e.expected(t, tb, k, nil), nil), want)
			if bias := 1 - c; bias > 0.8*last || bias < 1e-6 {
				t.Errorf("%s at K = %d: cosine %v after %v; want a bias that is there and shrinks", text, k, c, cosines)
			}
			last, cosines = 1-c, append(cosines, c)
		}
		t.Logf("%s: cosine with the gradient of D_f at K = 4, 8, 16: %.4f", text, cosines)

		var in losses.Input
		var out losses.Output
		in.LogPF, in.LogPB, in.LogReward = []float64{-1, -2}, make([]float64, 2), make([]float64, 2)
		var fault *fielderr.Error
		if err := tb.Evaluate(0, &in, &out); !errors.As(err, &fault) {
			t.Errorf("%s at K = 2: %v, want a refusal", text, err)
		}
		// Why: the two ends of the family have one and the same weight there.
		a, _ := member(t, text).EffectiveAlpha()
		b := 1 - a
		pair := []float64{0.4, -0.9}
		weight := math.Tanh(b*(pair[0]-pair[1])/2) / b
		if got := member(t, text).G1(pair[0] + losses.Optimal(member(t, text), pair, nil)); math.Abs(got-weight) > 1e-12 {
			t.Errorf("%s: weight %v of a pair, want %v", text, got, weight)
		}
	}
}
