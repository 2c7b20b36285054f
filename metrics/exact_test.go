package metrics_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/policy"
)

func grid(t testing.TB, change func(*hypergrid.Config)) envs.Enumerable {
	t.Helper()
	c := hypergrid.Default()
	change(&c)
	env, err := hypergrid.New(c)
	if err != nil {
		t.Fatal(err)
	}
	e, err := envs.Enumerate(env)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// uniformTape is the uniform policy as a model; it also checks what it is given.
type uniformTape struct {
	policy.Tape
	t    *testing.T
	spec envs.Spec
	seen int
}

func (u *uniformTape) LogProbs(params []float32, s *policy.States, dir policy.Direction, out []float32) error {
	if len(params) == 0 {
		return errors.New("no parameters")
	}
	u.seen += s.N
	if dir != policy.Forward || len(out) != s.N*u.spec.Actions || len(s.ForwardMask) != len(out) ||
		len(s.FeatOffset) != s.N+1 || int(s.FeatOffset[s.N]) != s.N*u.spec.MaxActive {
		u.t.Errorf("%d states, %d outputs, %d masks, %d features", s.N, len(out), len(s.ForwardMask), len(s.FeatIndex))
	}
	for row := 0; row < len(out); row += u.spec.Actions {
		legal := 0
		for _, ok := range s.ForwardMask[row : row+u.spec.Actions] {
			if ok {
				legal++
			}
		}
		for a := range u.spec.Actions {
			out[row+a] = float32(math.Inf(-1))
			if s.ForwardMask[row+a] {
				out[row+a] = float32(-math.Log(float64(legal)))
			}
		}
	}
	return nil
}

func TestModelAndFunctionAgree(t *testing.T) {
	e := grid(t, func(c *hypergrid.Config) { c.Height = 9 }) // 6,561 states: two chunks
	tape := &uniformTape{t: t, spec: e.Spec()}
	byModel, err := metrics.Evaluate(e, tape, make([]float32, 1))
	if err != nil {
		t.Fatal(err)
	}
	byFunction, err := metrics.Exact(e, envs.Uniform(e))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(byModel)
	b, _ := json.Marshal(byFunction)
	if string(a) != string(b) || tape.seen != e.NumStates() {
		t.Errorf("model %s\nfunction %s, %d states seen", a, b, tape.seen)
	}
	if _, err := metrics.Evaluate(e, tape, nil); err == nil || !strings.Contains(err.Error(), "no parameters") {
		t.Errorf("%v", err)
	}
}

func TestPerfectModel(t *testing.T) {
	e := grid(t, func(c *hypergrid.Config) { c.Dim = 2 })
	v, err := metrics.NewEvaluator(e, 1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Report(v.LogTarget())
	if err != nil {
		t.Fatal(err)
	}
	if r.Distances != (metrics.Distances{}) || r.ModesHeld != 4 || len(r.Modes) != 4 || r.ExpectedReward != r.TargetReward || r.LogZ != v.LogZ() {
		t.Errorf("%+v", r)
	}
	near(t, "log Z", r.LogZ, *envs.FactsOf(e).LogZ, 1e-12)
	// One cell of R = 2.501 a mode.
	for i, m := range r.Modes {
		near(t, "mode", m.Model, 2.501*math.Exp(-r.LogZ), 1e-14)
		if !m.Held() {
			t.Errorf("mode %d is not held", i)
		}
	}
	entropy := 0.0
	for _, lp := range v.LogTarget() {
		entropy -= math.Exp(lp) * lp
	}
	near(t, "entropy", r.Entropy, entropy, 1e-14)
}

// TestCollapsedModel has all its mass on one mode.
func TestCollapsedModel(t *testing.T) {
	e := grid(t, func(c *hypergrid.Config) { c.Dim = 2 })
	v, err := metrics.NewEvaluator(e, 1)
	if err != nil {
		t.Fatal(err)
	}
	q := make([]float64, e.NumObjects())
	for i := range q {
		q[i] = math.Inf(-1)
	}
	s := e.NewStates(1)
	if err := s.Parse(0, "(6,1)"); err != nil {
		t.Fatal(err)
	}
	q[e.Object(s, 0)] = 0
	r, err := v.Report(q)
	if err != nil {
		t.Fatal(err)
	}
	if r.ModesHeld != 1 || !r.Modes[1].Held() || r.Modes[1].Model != 1 || r.Entropy != 0 {
		t.Errorf("%+v", r)
	}
	near(t, "expected reward", r.ExpectedReward, 2.501, 1e-14)
	near(t, "TV", r.Distances.TV, 1-2.501*math.Exp(-r.LogZ), 1e-14)
	if _, err := v.Report(q[1:]); !errors.Is(err, metrics.ErrLength) {
		t.Errorf("%v", err)
	}
}

// TestExponent: the target is R^β; rewards stay those of the environment.
func TestExponent(t *testing.T) {
	base := grid(t, func(c *hypergrid.Config) { c.Dim = 2 })
	squared := grid(t, func(c *hypergrid.Config) { c.Dim, c.Exponent = 2, 2 })
	v, err := metrics.NewEvaluator(base, 2)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "log Z", v.LogZ(), *envs.FactsOf(squared).LogZ, 1e-12)
	r, err := v.Report(v.LogTarget())
	if err != nil {
		t.Fatal(err)
	}
	if r.TargetReward <= 0.5 || r.TargetReward > 2.501 {
		t.Errorf("E[R] under R²/Z = %v", r.TargetReward)
	}
	for _, bad := range []float64{-1, math.NaN(), math.Inf(1)} {
		if _, err := metrics.NewEvaluator(base, bad); err == nil {
			t.Errorf("exponent %v is accepted", bad)
		}
	}
}

func TestReportJSON(t *testing.T) {
	e := grid(t, func(c *hypergrid.Config) { c.Dim, c.Height, c.R2, c.Exponent = 2, 4, 1e30, 50 })
	r, err := metrics.Exact(e, envs.Uniform(e))
	if err != nil {
		t.Fatal(err)
	}
	r.ExpectedReward = math.Inf(1)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"objects":16`, `"tv":`, `"expected_reward":null`, `"modes":[]`, `"modes_held":0`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

func TestNotEnumerable(t *testing.T) {
	c := hypergrid.Default()
	c.Dim = 20
	env, err := hypergrid.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := metrics.Evaluate(env, nil, nil); !errors.Is(err, envs.ErrNotEnumerable) {
		t.Errorf("%v", err)
	}
	if _, err := metrics.Exact(env, nil); !errors.Is(err, envs.ErrNotEnumerable) {
		t.Errorf("%v", err)
	}
}

// TestFloorIsWhatTheTargetShows: samples of the target itself have about the
// predicted distance from it.
func TestFloorIsWhatTheTargetShows(t *testing.T) {
	e := grid(t, func(c *hypergrid.Config) { c.Dim, c.R0 = 2, 0.1 })
	target, _ := envs.Target(e)
	rnd := rng.New(3, rng.Evaluate)
	for _, n := range []int{50, 500, 50_000} {
		counts := make([]int64, len(target))
		for range n {
			u, x := rnd.Float64(), 0
			for ; x < len(target)-1; x++ {
				if u -= math.Exp(target[x]); u < 0 {
					break
				}
			}
			counts[x]++
		}
		got, err := metrics.EmpiricalTV(target, counts)
		if err != nil {
			t.Fatal(err)
		}
		if got.TV < 0.7*got.Floor || got.TV > 1.3*got.Floor {
			t.Errorf("%d samples: TV %v, floor %v", n, got.TV, got.Floor)
		}
	}
}
