package diffusion_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/diffusion"
	"github.com/driftmesh/driftmesh/envs/envtest"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/rng"
)

func build(t testing.TB, target string, dim int) envs.Env {
	t.Helper()
	env, err := diffusion.New(diffusion.Config{Target: target, Dim: dim, Steps: 7, Sigma: 2})
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func TestContract(t *testing.T) {
	for _, c := range []diffusion.Config{
		{Target: "gauss25", Steps: 20, Sigma: 2},
		{Target: "tilt25", Steps: 4, Sigma: 2, Tilt: 0.7},
		{Target: "funnel", Steps: 2, Sigma: 1},
		{Target: "funnel", Dim: 2, Steps: 5, Sigma: 0.1},
		{Target: "manywell", Steps: 9, Sigma: 1},
		{Target: "manywell", Dim: 2, Steps: 3, Sigma: 1},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			env, err := diffusion.New(c)
			if err != nil {
				t.Fatal(err)
			}
			envtest.Run(t, env)
		})
	}
}

// logReward is that of a point.
func logReward(t testing.TB, env envs.Env, text string) float64 {
	t.Helper()
	s, out := env.NewStates(1), []float64{0}
	if err := s.Parse(0, text); err != nil {
		t.Fatal(err)
	}
	if err := s.LogReward([]int32{0}, out); err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// TestDensities holds log-densities against their formulas written out in Python,
// every component of the mixture by itself.
func TestDensities(t *testing.T) {
	for _, c := range []struct {
		target string
		dim    int
		point  string
		want   float64
	}{
		{"gauss25", 0, "(0,0)", -3.85278008695161},
		{"gauss25", 0, "(2.5,-7)", -20.242725899132694},
		{"gauss25", 0, "(30,-100)", -14170.519446753618},
		{"funnel", 0, "(1,0.5,-0.25,0,2,1,0,0,0,-4)", -18.763768471253574},
		{"funnel", 2, "(-6,0.125)", -5.088276804239448},
		{"manywell", 4, "(1.75,0.5,-1.5,-2)", 15.43359375},
	} {
		if got := logReward(t, build(t, c.target, c.dim), c.point); math.Abs(got-c.want) > 1e-9*(1+math.Abs(c.want)) {
			t.Errorf("%s at %s: %.15g, want %.15g", c.target, c.point, got, c.want)
		}
	}
}

// TestPlaneIntegrals: on a fine grid of the plane the densities add up to e^{log Z}.
func TestPlaneIntegrals(t *testing.T) {
	for _, c := range []struct {
		target              string
		dim                 int
		left, right, bottom float64 // of the first coordinate; of the second, and −bottom
	}{{"gauss25", 2, -14, 14, -14}, {"manywell", 2, -4, 4, -9}} {
		env := build(t, c.target, c.dim)
		s, rows := env.NewStates(1), []int32{0}
		const step = 1.0 / 16
		sum, out := 0.0, []float64{0}
		for x := c.left; x <= c.right; x += step {
			for y := c.bottom; y <= -c.bottom; y += step {
				s.Reset(rows)
				for !s.Terminal(0) {
					if err := s.Forward(rows, []int32{envs.Word(float32(x)), envs.Word(float32(y))}); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.LogReward(rows, out); err != nil {
					t.Fatal(err)
				}
				sum += math.Exp(out[0]) * step * step
			}
		}
		if got, want := math.Log(sum), *envs.FactsOf(env).LogZ; math.Abs(got-want) > 1e-6 {
			t.Errorf("%s: log Z %v on a grid, %v in the facts", c.target, got, want)
		}
	}
}

// TestManywellLogZ is the value of the literature (Midgley et al. 2023, Sendera et
// al. 2024: 164.6957 for 32 dimensions).
func TestManywellLogZ(t *testing.T) {
	if z := *envs.FactsOf(build(t, "manywell", 0)).LogZ; math.Abs(z-164.6957) > 1e-4 {
		t.Errorf("log Z = %v", z)
	}
}

// TestDrawsFollowTheDensity: E_p[e^{−E·…}] needs no knowledge of how objects are
// drawn: for any density h, E_p[h/R] = 1/Z. h is a normal distribution that the
// target dominates.
func TestDrawsFollowTheDensity(t *testing.T) {
	for _, c := range []struct {
		target      string
		dim         int
		mean, std   []float64
		wantMoments [2]float64 // mean and variance of the first coordinate
		slack       float64
	}{
		{"gauss25", 2, []float64{5, -10}, []float64{0.4, 0.4}, [2]float64{0, 50.3}, 0.1},
		{"funnel", 2, []float64{0, 0}, []float64{1, 0.5}, [2]float64{0, 9}, 0.05},
		{"manywell", 2, []float64{1.7, 0}, []float64{0.15, 0.8}, [2]float64{1.1880, 1.5486}, 0.05},
	} {
		env := build(t, c.target, c.dim)
		const n = 40000
		s, rows := env.NewStates(n), make([]int32, n)
		for i := range rows {
			rows[i] = int32(i)
		}
		env.(envs.Drawn).Draw(rng.New(7, rng.Evaluate), s, rows)
		logR := make([]float64, n)
		if err := s.LogReward(rows, logR); err != nil {
			t.Fatal(err)
		}
		sum, first, second := 0.0, 0.0, 0.0
		for i := range rows {
			x := s.(envs.Points).AppendDense(nil, i)[1:3]
			h := 0.0
			for j, v := range x {
				z := (float64(v) - c.mean[j]) / c.std[j]
				h -= z*z/2 + math.Log(c.std[j]*math.Sqrt(2*math.Pi))
			}
			sum += math.Exp(h - logR[i])
			first += float64(x[0]) / n
			second += float64(x[0]) * float64(x[0]) / n
		}
		if got, want := -math.Log(sum/n), *envs.FactsOf(env).LogZ; math.Abs(got-want) > c.slack {
			t.Errorf("%s: draws say log Z = %v, want %v", c.target, got, want)
		}
		variance := second - first*first
		if math.Abs(first-c.wantMoments[0]) > c.slack || math.Abs(variance/c.wantMoments[1]-1) > c.slack {
			t.Errorf("%s: mean %v, variance %v; want %v", c.target, first, variance, c.wantMoments)
		}
	}
}

func TestModesOfTheGrid(t *testing.T) {
	env := build(t, "gauss25", 0)
	m, s := env.(envs.Moded), env.NewStates(1)
	for text, want := range map[string]int{
		"(-10,-10)": 0, "(-5,-10)": 1, "(10,-10)": 4, "(-10,-5)": 5, "(0,0)": 12, "(10,10)": 24,
		"(1,-1)": 12, "(2.5,0)": -1, "(13,0)": -1, "(1e30,0)": -1,
	} {
		if err := s.Parse(0, text); err != nil {
			t.Fatal(err)
		}
		if got := m.Mode(s, 0); got != want {
			t.Errorf("%s is in mode %d, want %d", text, got, want)
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		config     diffusion.Config
		path, want string
	}{
		{diffusion.Config{Target: "gauss24", Steps: 5, Sigma: 1}, "target", `did you mean "gauss25"`},
		{diffusion.Config{Target: "gauss25", Dim: 3, Steps: 5, Sigma: 1}, "dim", "in the plane"},
		{diffusion.Config{Target: "manywell", Dim: 5, Steps: 5, Sigma: 1}, "dim", "even"},
		{diffusion.Config{Target: "funnel", Dim: 1, Steps: 5, Sigma: 1}, "dim", "from 2"},
		{diffusion.Config{Target: "funnel", Steps: 1, Sigma: 1}, "steps", "from 2"},
		{diffusion.Config{Target: "funnel", Steps: 1 << 40, Sigma: 1}, "steps", "to 1000"},
		{diffusion.Config{Target: "tilt25", Steps: 5, Sigma: 1, Tilt: math.Inf(1)}, "tilt", "to 100"},
		{diffusion.Config{Target: "funnel", Steps: 5, Sigma: math.NaN()}, "sigma", "above 0"},
	} {
		_, err := diffusion.New(c.config)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path || !strings.Contains(fault.Want, c.want) {
			t.Errorf("%+v: %v", c.config, err)
		}
	}
}

// TestScores: the gradient among the features is the slope of the log-density.
func TestScores(t *testing.T) {
	for _, target := range []string{"gauss25", "funnel", "manywell"} {
		env := build(t, target, 0)
		dim, r := env.Spec().ActionDim, rng.New(3, rng.Evaluate)
		at := func(x []float32) ([]float32, float64) {
			s, rows, action := env.NewStates(1), []int32{0}, []int32(nil)
			for _, v := range x {
				action = append(action, envs.Word(v))
			}
			for !s.Terminal(0) {
				if err := s.Forward(rows, action); err != nil {
					t.Fatal(err)
				}
			}
			out := []float64{0}
			if err := s.LogReward(rows, out); err != nil {
				t.Fatal(err)
			}
			return s.(envs.Points).AppendDense(nil, 0)[1+dim:], out[0]
		}
		for range 20 {
			x := make([]float32, dim)
			for j := range x {
				x[j] = float32(2 * r.NormFloat64())
			}
			score, _ := at(x)
			for j := range x {
				const h = 1.0 / 512
				moved := slices.Clone(x)
				moved[j] = x[j] + h
				_, up := at(moved)
				moved[j] = x[j] - h
				_, down := at(moved)
				if slope := (up - down) / (2 * h); math.Abs(slope-float64(score[j])) > 1e-3*(1+math.Abs(slope)) {
					t.Errorf("%s at %v, coordinate %d: score %v, slope %v", target, x, j, score[j], slope)
				}
			}
		}
	}
}
