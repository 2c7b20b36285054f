package conditional_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/conditional"
	"github.com/driftmesh/driftmesh/envs/envtest"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/metrics"
)

func build(t testing.TB, change func(*conditional.Config)) envs.Env {
	t.Helper()
	c := conditional.Default()
	change(&c)
	env, err := conditional.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func TestContract(t *testing.T) {
	for name, change := range map[string]func(*conditional.Config){
		"default": func(*conditional.Config) {},
		"natural": func(c *conditional.Config) { c.Shares, c.Betas = conditional.Natural, []float64{0.3, 2} },
		"one":     func(c *conditional.Config) { c.Betas = []float64{1.5} },
		"sparse":  func(c *conditional.Config) { c.Grid.Dim, c.Grid.Height, c.Grid.Reward = 3, 5, hypergrid.Sparse },
		"large":   func(c *conditional.Config) { c.Grid.Dim = 10 }, // not listed
	} {
		t.Run(name, func(t *testing.T) { envtest.Run(t, build(t, change)) })
	}
}

// TestTargets: given the condition the target is that of the grid at its temperature,
// and shares are equal, or in proportion to Z.
func TestTargets(t *testing.T) {
	for _, shares := range []string{conditional.Equal, conditional.Natural} {
		env := build(t, func(c *conditional.Config) { c.Shares = shares })
		e, err := envs.Enumerate(env)
		if err != nil {
			t.Fatal(err)
		}
		logP, logZ := envs.Target(e)
		known, total := env.(interface{ LogZ() []float64 }).LogZ(), 0.0
		for i, beta := range conditional.Default().Betas {
			grid := conditional.Default().Grid
			grid.Exponent = beta
			alone, err := hypergrid.New(grid)
			if err != nil {
				t.Fatal(err)
			}
			want, z := envs.Target(alone.(envs.Enumerable))
			if math.Abs(known[i]-z) > 1e-12 {
				t.Errorf("log Z at %v is %v, want %v", beta, known[i], z)
			}
			total += math.Exp(z)
			share := -math.Log(3)
			if shares == conditional.Natural {
				share = z - logZ
			}
			for cell, lp := range want {
				if got := logP[64*i+cell]; math.Abs(got-share-lp) > 1e-12 {
					t.Fatalf("%s: cell %d at %v has log-probability %v, want %v", shares, cell, beta, got, share+lp)
				}
			}
		}
		want := math.Log(3)
		if shares == conditional.Natural {
			want = math.Log(total)
		}
		if math.Abs(logZ-want) > 1e-12 {
			t.Errorf("%s: log Z = %v, want %v", shares, logZ, want)
		}
	}
}

// TestThermometer: a condition has the features of all before it.
func TestThermometer(t *testing.T) {
	env := build(t, func(*conditional.Config) {})
	s := env.NewStates(1)
	if f := s.AppendFeatures(nil, 0); !slices.Equal(f, []int32{0, 8}) {
		t.Errorf("s0: %v", f)
	}
	for c := range int32(3) {
		s.Reset([]int32{0})
		if err := s.Forward([]int32{0}, []int32{3 + c}); err != nil {
			t.Fatal(err)
		}
		if f := s.AppendFeatures(nil, 0); !slices.Equal(f, []int32{0, 8, 16, 17, 18}[:3+c]) {
			t.Errorf("condition %d: %v", c, f)
		}
	}
}

// TestPotential is 0 before the choice, and under a condition the grid's at its
// temperature, in every state; objects have none.
func TestPotential(t *testing.T) {
	grid := conditional.Default().Grid
	grid.Exponent = 1.5
	alone, err := hypergrid.New(grid)
	if err != nil {
		t.Fatal(err)
	}
	env := build(t, func(c *conditional.Config) { c.Grid = grid })
	e, inner := env.(envs.Enumerable), alone.(envs.Enumerable)
	logR := make([]float64, inner.NumObjects())
	inner.LogRewards(logR)
	s, ok := env.NewStates(1).(envs.Potential)
	if !ok {
		t.Fatal("no potential")
	}
	row, out, stop := []int32{0}, []float64{math.NaN()}, []int32{0}
	for state := range e.NumStates() {
		e.Load(s, 0, state)
		want := 0.0
		if state > 0 {
			c, cell := (state-1)/inner.NumStates(), (state-1)%inner.NumStates()
			want = conditional.Default().Betas[c] * (logR[cell] - logR[0])
		}
		if err := s.LogPotential(row, out); err != nil || math.Abs(out[0]-want) > 1e-12*(1+math.Abs(want)) {
			t.Fatalf("potential of %s is %v (%v), want %v", s.Text(0), out[0], err, want)
		}
		if state > 0 && out[0] != 0 { // the reward of stopping here, less a constant of the condition
			stop[0] = int32(alone.Spec().Actions) - 1
			lr, first := []float64{0}, []float64{0}
			if err := errors.Join(s.Forward(row, stop), s.LogReward(row, lr)); err != nil {
				t.Fatal(err)
			}
			e.Load(s, 0, 1+(state-1)/inner.NumStates()*inner.NumStates())
			if err := errors.Join(s.Forward(row, stop), s.LogReward(row, first)); err != nil {
				t.Fatal(err)
			}
			if math.Abs(lr[0]-first[0]-want) > 1e-12*(1+math.Abs(want)) {
				t.Fatalf("stopping earns %v more than in the origin, and the potential is %v", lr[0]-first[0], want)
			}
			if s.LogPotential(row, out) == nil {
				t.Fatal("an object has a potential")
			}
		}
	}
}

// TestReport: a policy that chooses evenly and then walks uniformly has the same
// distribution of cells under every condition; each is at its own distance.
func TestReport(t *testing.T) {
	env := build(t, func(*conditional.Config) {})
	e := env.(envs.Enumerable)
	r, err := metrics.Exact(env, envs.Uniform(e))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Conditions) != 3 {
		t.Fatalf("%+v", r.Conditions)
	}
	mean := 0.0
	for i, c := range r.Conditions {
		grid := conditional.Default().Grid
		grid.Exponent = conditional.Default().Betas[i]
		alone, err := hypergrid.New(grid)
		if err != nil {
			t.Fatal(err)
		}
		want, err := metrics.Exact(alone, envs.Uniform(alone.(envs.Enumerable)))
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(c.TV-want.Distances.TV) > 1e-6 || math.Abs(c.TargetShare-1./3) > 1e-12 || math.Abs(c.ModelShare-1./3) > 1e-6 {
			t.Errorf("%+v, want a TV of %v and thirds", c, want.Distances.TV)
		}
		mean += c.TV / 3
	}
	if math.Abs(r.Distances.TV-mean) > 1e-6 {
		t.Errorf("TV of pairs %v, mean of conditions %v", r.Distances.TV, mean)
	}
}

func TestParseRefuses(t *testing.T) {
	s := build(t, func(*conditional.Config) {}).NewStates(1)
	if err := s.Parse(0, "beta=0.25 (3,0)"); err != nil || s.Text(0) != "beta=0.25 (3,0)" {
		t.Fatalf("%v, %s", err, s.Text(0))
	}
	for _, text := range []string{"", "(3,0)", "beta=2 (3,0)", "beta=0.25", "beta=? (3,0)", "beta=0.25 (3,8)"} {
		if err := s.Parse(0, text); !errors.Is(err, conditional.ErrText) {
			t.Errorf("Parse(%q) = %v", text, err)
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		change     func(*conditional.Config)
		path, want string
	}{
		{func(c *conditional.Config) { c.Betas = nil }, "betas", "ascending"},
		{func(c *conditional.Config) { c.Betas = []float64{1, 0.5} }, "betas", "ascending"},
		{func(c *conditional.Config) { c.Betas = []float64{1, 1} }, "betas", "different"},
		{func(c *conditional.Config) { c.Betas = []float64{-1, 1} }, "betas", "above 0"},
		{func(c *conditional.Config) { c.Betas = []float64{1, math.NaN()} }, "betas", ""},
		{func(c *conditional.Config) { c.Shares = "natrual" }, "shares", `did you mean "natural"`},
		{func(c *conditional.Config) { c.Grid.Height = 1 }, "height", "at least 2"},
		{func(c *conditional.Config) {
			c.Grid.Reward, c.Grid.Dim, c.Grid.Height = hypergrid.Cosine, 60, 12
		}, "betas", "log Z is known"},
	} {
		conf := conditional.Default()
		c.change(&conf)
		_, err := conditional.New(conf)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path || !strings.Contains(fault.Want, c.want) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}
