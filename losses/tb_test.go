package losses

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/schedule"
)

func TestEvaluateLearned(t *testing.T) {
	tb := objective(t, "hellinger", Learned)
	d := mustParse(t, "hellinger")
	in := &Input{
		LogPF: []float64{-1, -2, -3}, LogPB: []float64{-0.5, -0.1, 0}, LogReward: []float64{0.3, -1, 1},
		LogBehaviour: []float64{-1.5, math.NaN(), -2.5}, LogZ: 0.7, Lag: []int64{3, 0, 9},
	}
	var out Output
	if err := tb.Evaluate(0, in, &out); err != nil {
		t.Fatal(err)
	}
	var loss, gradZ float64
	for i := range in.LogPF {
		x := in.LogZ + in.LogPF[i] - in.LogReward[i] - in.LogPB[i]
		loss, gradZ = loss+d.G(x)/3, gradZ+d.G1(x)/3
		near(t, "δ", out.Delta[i], x, 1e-15)
		near(t, "w", out.W[i], d.G1(x)/3, 1e-14)
		near(t, "w of P_B", out.WB[i], -d.G1(x)/3, 1e-14)
	}
	near(t, "loss", out.Loss, loss, 1e-14)
	near(t, "∂/∂log Z", out.GradLogZ, gradZ, 1e-14)
	if len(out.C) != 1 || out.C[0] != 0.7 {
		t.Errorf("C = %v", out.C)
	}
	q := out.Diagnostics
	a, b := math.Exp(0.5), math.Exp(-0.5)
	near(t, "ESS", q.ESS, (a+b)*(a+b)/(a*a+b*b), 1e-14)
	if q.Known != 2 || math.Abs(q.KL) > 1e-15 || q.Lag != (LagSummary{0, 3, 9, 9}) || q.TailShare != 0 {
		t.Errorf("diagnostics %+v", q)
	}
	if q.DeltaQuantiles[0] != min(out.Delta[0], out.Delta[1], out.Delta[2]) || q.DeltaQuantiles[6] != max(out.Delta[0], out.Delta[1], out.Delta[2]) {
		t.Errorf("quantiles %v", q.DeltaQuantiles)
	}
}

func TestTailShare(t *testing.T) {
	out := evaluateDeltas(t, objective(t, "reverse_kl,tail:2", Learned), []float64{1, -1, 2, -5})
	near(t, "share of weights on the tail", out.Diagnostics.TailShare, 4.0/6, 1e-15)
	if q := evaluateDeltas(t, objective(t, "huber:1", BatchMean), []float64{3, 3}).Diagnostics; q.TailShare != 0 || q.Known != 0 || q.ESS != 0 {
		t.Errorf("without weights: %+v", q)
	}
}

// TestWeightsAreTheGradient: W, WB and GradLogZ are ∂Loss over each score, with
// c held by the envelope theorem for batch_optimal.
func TestWeightsAreTheGradient(t *testing.T) {
	specs := []string{"reverse_kl", "forward_kl,tail:3", "jensen_shannon", "hellinger,temper:0.5", "log_cosh", "triangular"}
	rapid.Check(t, func(rt *rapid.T) {
		spec := rapid.SampledFrom(specs).Draw(rt, "spec")
		mode := rapid.SampledFrom([]Normaliser{Learned, BatchOptimal}).Draw(rt, "normaliser")
		scores := rapid.SliceOfN(rapid.Float64Range(-3, 3), 5, 5)
		in := &Input{LogPF: scores.Draw(rt, "pf"), LogPB: scores.Draw(rt, "pb"), LogReward: scores.Draw(rt, "r"), LogZ: 0.4}
		tb := objective(t, spec, mode)
		var out, probe Output
		if err := tb.Evaluate(0, in, &out); err != nil {
			rt.Fatal(err)
		}
		loss := func(at *float64) func(float64) float64 {
			return func(x float64) float64 {
				old := *at
				*at = old + x
				defer func() { *at = old }()
				if err := tb.Evaluate(0, in, &probe); err != nil {
					rt.Fatal(err)
				}
				return probe.Loss
			}
		}
		for i, x := range out.Delta {
			if math.Abs(math.Abs(x)-3) < 1e-3 {
				return // at the tail's kink differences are not derivatives
			}
			if got := derivative(loss(&in.LogPF[i]), 0); math.Abs(got-out.W[i]) > 1e-7 {
				rt.Fatalf("∂Loss/∂log P_F[%d] = %v, W = %v", i, got, out.W[i])
			}
			if got := derivative(loss(&in.LogPB[i]), 0); math.Abs(got-out.WB[i]) > 1e-7 {
				rt.Fatalf("∂Loss/∂log P_B[%d] = %v, WB = %v", i, got, out.WB[i])
			}
		}
		if got := derivative(loss(&in.LogZ), 0); math.Abs(got-out.GradLogZ) > 1e-7 {
			rt.Fatalf("∂Loss/∂log Z = %v, GradLogZ = %v", got, out.GradLogZ)
		}
	})
}

func TestBackwardModes(t *testing.T) {
	in := &Input{LogPF: []float64{1, 2}, LogPB: []float64{0, 0}, LogReward: []float64{0, 0}}
	for mode, want := range map[Backward][]float64{
		Joint: {-0.5, -1}, Frozen: {0, 0}, Uniform: {0, 0}, MaxLikelihood: {-0.5, -0.5},
	} {
		tb, err := NewTB(Config{Member: Fixed(reverseKL), Normaliser: Learned, Backward: mode})
		if err != nil {
			t.Fatal(err)
		}
		var out Output
		if err := tb.Evaluate(0, in, &out); err != nil || out.WB[0] != want[0] || out.WB[1] != want[1] {
			t.Errorf("%s: %v, %v", mode, out.WB, err)
		}
	}
}

// TestGroups: groups are normalised apart, whatever the order of the rows.
func TestGroups(t *testing.T) {
	delta := []float64{5, 0.1, -1, 5, 2, 5, -0.4, 5}
	groups := []int32{2, 0, 0, 2, 0, 2, 0, 2}
	alone := evaluateDeltas(t, objective(t, "hellinger", BatchOptimal), []float64{0.1, -1, 2, -0.4})
	tb, err := NewTB(Config{Member: Fixed(mustParse(t, "hellinger")), Normaliser: BatchOptimal, Backward: Joint, Groups: 3})
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{LogPF: delta, LogPB: make([]float64, 8), LogReward: make([]float64, 8), Groups: groups}
	var out Output
	if err := tb.Evaluate(0, in, &out); err != nil {
		t.Fatal(err)
	}
	if out.C[0] != alone.C[0] || !math.IsNaN(out.C[1]) || out.C[2] != -5 {
		t.Errorf("C = %v, alone %v", out.C, alone.C)
	}
	for i, g := range groups {
		if g == 2 && out.W[i] != 0 {
			t.Errorf("equal residuals have weight %v", out.W[i])
		}
	}
	near(t, "weight in a group", out.W[1]*2, alone.W[0], 1e-15)
}

func TestEqualResiduals(t *testing.T) {
	for _, mode := range []Normaliser{BatchMean, BatchOptimal, LeaveOneOut, Running} {
		for _, text := range []string{"reverse_kl", "forward_kl", "alpha:0.3"} {
			out := evaluateDeltas(t, objective(t, text, mode), []float64{0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1})
			for _, w := range out.W {
				if w != 0 {
					t.Errorf("%s, %s: weight %v", mode, text, w)
				}
			}
		}
	}
}

// TestOptimalProperties: the weights sum to zero and c* moves with the residuals.
func TestOptimalProperties(t *testing.T) {
	specs := someSpecs()
	rapid.Check(t, func(t *rapid.T) {
		d, err := Parse(rapid.SampledFrom(specs).Draw(t, "spec"))
		if err != nil {
			t.Fatal(err)
		}
		delta := rapid.SliceOfN(rapid.Float64Range(-8, 8), 1, 12).Draw(t, "delta")
		c := Optimal(d, delta, nil)
		var loss, below, above, sum, size float64
		for _, x := range delta {
			loss, below, above = loss+d.G(x+c), below+d.G(x+c-1e-3), above+d.G(x+c+1e-3)
			sum, size = sum+d.G1(x+c), size+math.Abs(d.G1(x+c))
		}
		if loss > below*(1+1e-12) || loss > above*(1+1e-12) {
			t.Fatalf("c* = %v is no minimum: %v between %v and %v", c, loss, below, above)
		}
		if d.Smooth() && math.Abs(sum) > 1e-9*size+1e-12 {
			t.Fatalf("weights sum to %v of %v", sum, size)
		}
	})
}

func TestOptimalOnIntervals(t *testing.T) {
	for _, c := range []struct {
		text  string
		delta []float64
		want  float64
	}{
		{"total_variation", []float64{3, -1, 10}, -3},
		{"total_variation", []float64{3, -1, 10, 4}, -3.5},
		{"huber:1", []float64{-10, 10}, 0},     // Σ g' vanishes for |c| ≤ 9
		{"huber:1", []float64{-10, 12}, -1},    // and here on [−11, 9]
		{"log_cosh", []float64{-100, 104}, -2}, // flat to rounding
		{"forward_kl,tail:3", []float64{1, 1, 1}, -1},
	} {
		near(t, c.text, Optimal(mustParse(t, c.text), c.delta, nil)+100, c.want+100, 1e-13)
	}
	// Extremes meet in one sum and must not become NaN.
	for _, text := range []string{"shifted_cosh", "jeffreys", "neyman_chi2,tail:500", "forward_kl"} {
		if c := Optimal(mustParse(t, text), []float64{-2000, 0, 3000}, nil); !isFinite(c) || c < -3000 || c > 2000 {
			t.Errorf("%s: c* = %v", text, c)
		}
	}
}

// TestLeaveOneOutFarApart: one weight that dominates must not swallow the rest.
func TestLeaveOneOutFarApart(t *testing.T) {
	out := make([]float64, 3)
	leaveOneOut([]float64{-2000, 0, 1}, 1, out)
	others := math.Log((1 + math.Exp(-1)) / 2)
	near(t, "without the first", out[0], others, 1e-12)
	near(t, "without the second", out[1], 2000-math.Ln2, 1e-12)
	rapid.Check(t, func(t *rapid.T) {
		delta := rapid.SliceOfN(rapid.Float64Range(-5, 5), 2, 9).Draw(t, "delta")
		b := rapid.SampledFrom([]float64{1, 0.5, -1, 1e-3, 1e-7, 0}).Draw(t, "b")
		out := make([]float64, len(delta))
		leaveOneOut(delta, b, out)
		for i := range delta {
			var rest []float64
			rest = append(append(rest, delta[:i]...), delta[i+1:]...)
			if want := logMeanExp(rest, b); math.Abs(out[i]-want) > 1e-8 {
				t.Fatalf("c[%d] = %v, of the others alone %v", i, out[i], want)
			}
		}
	})
}

func TestRunning(t *testing.T) {
	cfg := Config{Member: Fixed(forwardKL), Normaliser: Running, Backward: Joint, RunningDecay: 0.5, Groups: 2}
	tb, err := NewTB(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out Output
	step := func(tb *TB, delta float64) float64 {
		in := &Input{LogPF: []float64{delta}, LogPB: []float64{0}, LogReward: []float64{0}, Groups: []int32{1}}
		if err := tb.Evaluate(0, in, &out); err != nil {
			t.Fatal(err)
		}
		return out.C[1]
	}
	if c := step(tb, 4); c != -4 {
		t.Errorf("the first fit is %v", c)
	}
	near(t, "second", step(tb, 1), -(0.25*4+0.5*1)/0.75, 1e-15)
	other, _ := NewTB(cfg)
	if err := other.Restore(tb.State()); err != nil {
		t.Fatal(err)
	}
	if a, b := step(tb, 2.5), step(other, 2.5); a != b {
		t.Errorf("restored state goes on with %v, not %v", b, a)
	}
	before := tb.State()
	bad := &Input{LogPF: []float64{math.NaN()}, LogPB: []float64{0}, LogReward: []float64{0}}
	if tb.Evaluate(0, bad, &out) == nil || tb.State()[3] != before[3] {
		t.Error("a failed batch moved the running normaliser")
	}
	for _, state := range [][]float64{nil, {1}, {0, 0, math.NaN(), 1}, {0, 0, 0, 2}, {0, -1, 0, 0}} {
		if err := tb.Restore(state); !errors.Is(err, ErrInput) {
			t.Errorf("state %v: %v", state, err)
		}
	}
}

func TestCheckGroup(t *testing.T) {
	for _, c := range []struct {
		text     string
		mode     Normaliser
		k        int
		warnings int
		refused  bool
	}{
		{"forward_kl", BatchOptimal, 3, 0, true},
		{"forward_kl", BatchOptimal, 4, 1, false},
		{"forward_kl", BatchOptimal, 16, 0, false},
		{"reverse_kl", BatchOptimal, 2, 0, false},
		{"alpha:1", BatchOptimal, 2, 0, false},
		{"reverse_kl,tail:5", BatchOptimal, 2, 0, true},
		{"hellinger", BatchMean, 64, 1, false},
		{"reverse_kl", BatchMean, 2, 0, false},
		{"hellinger", LeaveOneOut, 2, 0, false},
		{"hellinger", LeaveOneOut, 1, 0, true},
		{"hellinger,tail:5", LeaveOneOut, 16, 0, true},
		{"huber:1", LeaveOneOut, 16, 0, true},
		{"huber:1", Learned, 1, 0, false},
		{"huber:1", Running, 1, 0, false},
	} {
		d := mustParse(t, c.text)
		warnings, err := c.mode.CheckGroup(d, c.k)
		var fe *fielderr.Error
		if errors.As(err, &fe) != c.refused || len(warnings) != c.warnings {
			t.Errorf("%s, %s, K = %d: %q, %v", c.text, c.mode, c.k, warnings, err)
		}
		in := &Input{LogPF: make([]float64, c.k), LogPB: make([]float64, c.k), LogReward: make([]float64, c.k)}
		if err := objective(t, c.text, c.mode).Evaluate(0, in, new(Output)); (err != nil) != c.refused {
			t.Errorf("%s, %s, K = %d: Evaluate gave %v", c.text, c.mode, c.k, err)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	good := Config{Member: Fixed(reverseKL), Normaliser: Learned, Backward: Joint}
	for path, change := range map[string]func(*Config){
		"divergence":    func(c *Config) { c.Member = nil },
		"normaliser":    func(c *Config) { c.Normaliser = "best" },
		"backward":      func(c *Config) { c.Backward = "best" },
		"running_decay": func(c *Config) { c.RunningDecay = 1 },
		"groups":        func(c *Config) { c.Groups = -1 },
	} {
		cfg := good
		change(&cfg)
		_, err := NewTB(cfg)
		var fe *fielderr.Error
		if !errors.As(err, &fe) || fe.Path != path {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestBadScores(t *testing.T) {
	fresh := func() *Input {
		return &Input{LogPF: []float64{0, 0}, LogPB: []float64{0, 0}, LogReward: []float64{0, 0}}
	}
	nan, inf := math.NaN(), math.Inf(-1)
	for says, change := range map[string]func(*Input){
		"trajectory 1: log P_F":       func(in *Input) { in.LogPF[1] = nan },
		"trajectory 0: log P_B":       func(in *Input) { in.LogPB[0] = inf },
		"trajectory 1: log R":         func(in *Input) { in.LogReward[1] = inf },
		"trajectory 1: log behaviour": func(in *Input) { in.LogBehaviour = []float64{nan, inf} },
		"log Z":                       func(in *Input) { in.LogZ = nan },
		"trajectory 0: residual":      func(in *Input) { in.LogPF[0], in.LogReward[0] = 1.7e308, -1.7e308 },
		"no trajectories":             func(in *Input) { in.LogPF = nil },
		"slices of":                   func(in *Input) { in.Lag = []int64{1} },
		"in group 7 of 1":             func(in *Input) { in.Groups = []int32{0, 7} },
		"in group -1":                 func(in *Input) { in.Groups = []int32{-1, 0} },
	} {
		in := fresh()
		change(in)
		err := objective(t, "reverse_kl", Learned).Evaluate(0, in, new(Output))
		if err == nil || !strings.Contains(err.Error(), says) || !errors.Is(err, ErrNonFinite) && !errors.Is(err, ErrInput) {
			t.Errorf("want %q, got %v", says, err)
		}
	}
}

// TestNoAllocation: the learner calls Evaluate for every update.
func TestNoAllocation(t *testing.T) {
	n := 32
	in := &Input{LogPF: make([]float64, n), LogPB: make([]float64, n), LogReward: make([]float64, n), LogBehaviour: make([]float64, n), Groups: make([]int32, n), Lag: make([]int64, n)}
	for i := range n {
		in.LogPF[i], in.Groups[i] = math.Sin(float64(i)), int32(i%2)
	}
	for _, text := range []string{"hellinger", "forward_kl,temper:0.5,tail:5", "custom:g1=tanh(delta)", "custom:f2=1/u", "total_variation"} {
		for _, mode := range Normalisers() {
			m, err := NewMember(text, Overrides{})
			if err != nil {
				t.Fatal(err)
			}
			if _, pure := alphaFamily(m.At(0)); mode == LeaveOneOut && !pure {
				continue
			}
			tb, err := NewTB(Config{Member: m, Normaliser: mode, Backward: Joint, Groups: 2})
			if err != nil {
				t.Fatal(err)
			}
			var out Output
			if allocs := testing.AllocsPerRun(5, func() {
				if err := tb.Evaluate(0, in, &out); err != nil {
					t.Fatal(err)
				}
			}); allocs != 0 {
				t.Errorf("%s, %s: %v allocations", text, mode, allocs)
			}
		}
	}
}

func TestScheduledObjective(t *testing.T) {
	ramp := schedule.Value{Kind: schedule.Linear, From: 0, To: 1, Over: 10}
	m, err := NewMember("alpha", Overrides{Parameter: &ramp})
	if err != nil {
		t.Fatal(err)
	}
	tb, err := NewTB(Config{Member: m, Normaliser: Learned, Backward: Joint})
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{LogPF: []float64{-1}, LogPB: []float64{0}, LogReward: []float64{0}}
	var out Output
	for update, text := range map[int64]string{0: "forward_kl", 5: "hellinger", 10: "reverse_kl"} {
		if err := tb.Evaluate(update, in, &out); err != nil {
			t.Fatal(err)
		}
		near(t, text, out.W[0], mustParse(t, text).G1(-1), 1e-14)
	}
}
