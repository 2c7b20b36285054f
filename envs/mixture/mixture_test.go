package mixture_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/envtest"
	"github.com/driftmesh/driftmesh/envs/mixture"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

func TestContract(t *testing.T) {
	plane := mixture.Default()
	plane.Dim, plane.Cells = 2, 12
	three := mixture.Default()
	three.Weights, three.Means, three.Widths = []float64{1, 2, 3}, []float64{-5, 0, 4}, []float64{0.5, 1, 0.7}
	fine := mixture.Default()
	fine.Cells = 1000
	far := mixture.Default() // rewards below the smallest float64
	far.Widths = []float64{0.05}
	for i, c := range []mixture.Config{mixture.Default(), plane, three, fine, far} {
		t.Run(fmt.Sprintf("mixture %d", i), func(t *testing.T) {
			env, err := mixture.New(c)
			if err != nil {
				t.Fatal(err)
			}
			envtest.Run(t, env)
		})
	}
	t.Run("categorical", func(t *testing.T) {
		env, err := mixture.NewCategorical(mixture.DefaultCategorical())
		if err != nil {
			t.Fatal(err)
		}
		envtest.Run(t, env)
	})
}

// TestRewardIsTheDensity compares with the formula, and log Z with the integral:
// the humps lie well inside the range, so Z times the size of a cell is their mass.
func TestRewardIsTheDensity(t *testing.T) {
	c := mixture.Default()
	c.Cells = 400
	env, err := mixture.New(c)
	if err != nil {
		t.Fatal(err)
	}
	e := env.(envs.Enumerable)
	logR := make([]float64, e.NumObjects())
	e.LogRewards(logR)
	normal := func(x, m float64) float64 { return math.Exp(-(x-m)*(x-m)/2) / math.Sqrt(2*math.Pi) }
	for i, p := range env.Spec().Points {
		if want := math.Log(0.7*normal(p[0], -3) + 0.3*normal(p[0], 3)); math.Abs(logR[i]-want) > 1e-12*(1+math.Abs(want)) {
			t.Errorf("log R at %v is %v, want %v", p, logR[i], want)
		}
	}
	// 5 widths of 1 are within the range on either side: all but 6e-7 of the mass.
	if z := *envs.FactsOf(env).LogZ + math.Log(16.0/400); math.Abs(z) > 1e-6 {
		t.Errorf("log of the integral is %v, want 0", z)
	}
}

// TestHumpsDivideTheCells: to the left of the point where the two are equal is
// the first hump's, to the right the second's.
func TestHumpsDivideTheCells(t *testing.T) {
	c := mixture.Default()
	env, err := mixture.New(c)
	if err != nil {
		t.Fatal(err)
	}
	border := math.Log(0.7/0.3) / 6 // where 0.7 N(x; −3, 1) = 0.3 N(x; 3, 1)
	s := env.NewStates(1)
	for i, p := range env.Spec().Points {
		if err := s.Parse(0, fmt.Sprintf("(%d)", i)); err != nil {
			t.Fatal(err)
		}
		want := 0
		if p[0] > border {
			want = 1
		}
		if got := env.(envs.Moded).Mode(s, 0); got != want {
			t.Errorf("the cell at %v belongs to hump %d, want %d", p, got, want)
		}
	}
}

func TestFaults(t *testing.T) {
	for path, spoil := range map[string]func(c *mixture.Config){
		"dim":        func(c *mixture.Config) { c.Dim = 3 },
		"cells":      func(c *mixture.Config) { c.Cells = 1 },
		"high":       func(c *mixture.Config) { c.High = c.Low },
		"weights":    func(c *mixture.Config) { c.Weights = nil; c.Widths = []float64{1} },
		"weights[1]": func(c *mixture.Config) { c.Weights = []float64{1, 0} },
		"widths":     func(c *mixture.Config) { c.Widths = []float64{1, 1, 1} },
		"widths[0]":  func(c *mixture.Config) { c.Widths = []float64{math.NaN()} },
		"means":      func(c *mixture.Config) { c.Means = []float64{1} },
		"means[1]":   func(c *mixture.Config) { c.Means = []float64{1, 9} },
		"separation": func(c *mixture.Config) { c.Separation = 17 },
	} {
		c := mixture.Default()
		spoil(&c)
		_, err := mixture.New(c)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != path {
			t.Errorf("%s: %v", path, err)
		}
	}
	// Humps in one place cannot be told apart.
	c := mixture.Default()
	c.Separation = 0
	if _, err := mixture.New(c); err == nil || !strings.Contains(err.Error(), "hump 1") {
		t.Errorf("two humps in one place: %v", err)
	}
	for _, rewards := range [][]float64{nil, {1}, {1, math.Inf(1)}} {
		if _, err := mixture.NewCategorical(mixture.CategoricalConfig{LogRewards: rewards}); err == nil {
			t.Errorf("log-rewards %v are accepted", rewards)
		}
	}
}
