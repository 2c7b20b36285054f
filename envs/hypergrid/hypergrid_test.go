package hypergrid_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
)

// near fails the test unless got is want within a relative error of tol.
func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*max(1, math.Abs(want))) {
		t.Errorf("%s = %.17g, want %.17g", what, got, want)
	}
}

func build(t testing.TB, change func(*hypergrid.Config)) envs.Env {
	t.Helper()
	c := hypergrid.Default()
	change(&c)
	env, err := hypergrid.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func shape(dim, height int) func(*hypergrid.Config) {
	return func(c *hypergrid.Config) { c.Dim, c.Height = dim, height }
}

func TestReferenceValues(t *testing.T) {
	data, err := os.ReadFile("testdata/hypergrid.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Dim, Height int
		R0, R1, R2  float64
		Cells       float64
		LogZ        float64 `json:"log_z"`
		MaxReward   float64 `json:"max_reward"`
		CellsAtMax  int     `json:"cells_at_max"`
		Modes       *float64
		MaxSteps    int `json:"max_steps"`
		Samples     []struct {
			X      []int
			Reward float64
		}
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 8 {
		t.Fatalf("only %d reference grids", len(cases))
	}
	for _, c := range cases {
		env := build(t, func(g *hypergrid.Config) {
			g.Dim, g.Height, g.R0, g.R1, g.R2 = c.Dim, c.Height, c.R0, c.R1, c.R2
		})
		f := env.(envs.Described).Facts()
		near(t, "cells", *f.Cells, c.Cells, 0)
		near(t, "log Z", *f.LogZ, c.LogZ, 1e-13)
		near(t, "max reward", *f.MaxReward, c.MaxReward, 1e-14)
		if (f.Modes == nil) != (c.Modes == nil) || f.Modes != nil && *f.Modes != *c.Modes {
			t.Errorf("modes = %v, want %v", f.Modes, c.Modes)
		}
		if f.MaxSteps != c.MaxSteps || env.Spec().MaxSteps != c.MaxSteps {
			t.Errorf("max steps = %d, want %d", f.MaxSteps, c.MaxSteps)
		}
		e, err := envs.Enumerate(env)
		if err != nil {
			t.Fatal(err)
		}
		logP, logZ := envs.Target(e)
		near(t, "listed log Z", logZ, c.LogZ, 1e-12)
		atMax := 0
		for _, lp := range logP {
			if math.Abs(math.Exp(lp+logZ)-c.MaxReward) < 1e-9 {
				atMax++
			}
		}
		if atMax != c.CellsAtMax {
			t.Errorf("%d-D height %d: %d cells at the maximum, want %d", c.Dim, c.Height, atMax, c.CellsAtMax)
		}
		s := env.NewStates(1)
		for _, x := range c.Samples {
			text, _ := json.Marshal(x.X)
			if err := s.Parse(0, "("+strings.Trim(string(text), "[]")+")"); err != nil {
				t.Fatal(err)
			}
			out := make([]float64, 1)
			if err := s.LogReward([]int32{0}, out); err != nil {
				t.Fatal(err)
			}
			near(t, "reward of "+s.Text(0), math.Exp(out[0]), x.Reward, 1e-14)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	s := build(t, shape(3, 8)).NewStates(1)
	if err := s.Parse(0, " ( 3, 0,7 ) "); err != nil || s.Text(0) != "(3,0,7)" {
		t.Fatalf("spaces: %v, %s", err, s.Text(0))
	}
	for _, text := range []string{"", "3,0,7", "(3,0,7", "(3,0)", "(3,0,7,1)", "(3,0,8)", "(3,0,-1)", "(3,,7)", "(3,0,1e0)", "(3,0,99999999999)"} {
		if err := s.Parse(0, text); !errors.Is(err, hypergrid.ErrText) {
			t.Errorf("Parse(%q) = %v", text, err)
		}
	}
	if s.Text(0) != "(3,0,7)" {
		t.Errorf("a wrong text changed the row to %s", s.Text(0))
	}
}
