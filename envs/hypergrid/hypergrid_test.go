package hypergrid_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/internal/fielderr"
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

// TestCosineReward evaluates the definition for whole cells.
func TestCosineReward(t *testing.T) {
	env := build(t, func(c *hypergrid.Config) {
		c.Dim, c.Height, c.R0, c.R1, c.Reward, c.Exponent = 2, 16, 0.1, 0.5, hypergrid.Cosine, 3
	})
	s, out := env.NewStates(1), make([]float64, 1)
	for text, x := range map[string][2]float64{"(0,0)": {0, 0}, "(7,7)": {7, 7}, "(5,12)": {5, 12}} {
		want := 0.5
		for _, v := range x {
			a := math.Abs(v/15 - 0.5)
			want *= (math.Cos(50*a) + 1) * math.Exp(-(5*a)*(5*a)/2) / math.Sqrt(2*math.Pi)
		}
		if err := errors.Join(s.Parse(0, text), s.LogReward([]int32{0}, out)); err != nil {
			t.Fatal(err)
		}
		near(t, "log reward of "+text, out[0], 3*math.Log(0.1+want), 1e-14)
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

func FuzzParse(f *testing.F) {
	for _, text := range []string{"(3,0,7)", " ( 0 ,0, 0 )", "(3,0)", "((,),", "(+1,0,0)", "(1,2,\xff)"} {
		f.Add(text)
	}
	env := build(f, shape(3, 8))
	f.Fuzz(func(t *testing.T, text string) {
		s := env.NewStates(2)
		if err := s.Parse(0, text); err != nil {
			if s.Terminal(0) {
				t.Errorf("%q is refused, and yet read", text)
			}
			return
		}
		canonical := s.Text(0)
		if err := s.Parse(1, canonical); err != nil || s.Text(1) != canonical {
			t.Errorf("%q is read as %s, which is read as %s (%v)", text, canonical, s.Text(1), err)
		}
	})
}

// TestClosedForms compares log Z, modes and the largest reward with the list
// for random grids of all rewards.
func TestClosedForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := hypergrid.Config{
			Dim:      rapid.IntRange(1, 4).Draw(t, "dim"),
			Height:   rapid.IntRange(2, 12).Draw(t, "height"),
			R0:       rapid.Float64Range(1e-6, 2).Draw(t, "r0"),
			R1:       rapid.Float64Range(0, 2).Draw(t, "r1"),
			R2:       rapid.Float64Range(0, 3).Draw(t, "r2"),
			Reward:   rapid.SampledFrom([]string{hypergrid.Standard, hypergrid.Cosine, hypergrid.Sparse, hypergrid.Deceptive, hypergrid.Corner}).Draw(t, "reward"),
			Exponent: rapid.SampledFrom([]float64{1, 0.5, 2, 7.5}).Draw(t, "exponent"),
		}
		if c.Reward == hypergrid.Sparse {
			c.Height = max(c.Height, 4)
		}
		env, err := hypergrid.New(c)
		if err != nil {
			t.Fatal(err)
		}
		e, err := envs.Enumerate(env)
		if err != nil {
			t.Fatal(err)
		}
		f := env.(envs.Described).Facts()
		logP, logZ := envs.Target(e)
		best := math.Inf(-1)
		for _, lp := range logP {
			best = max(best, lp+logZ)
		}
		if math.Abs(*f.LogZ-logZ) > 1e-11*max(1, math.Abs(logZ)) {
			t.Errorf("log Z = %v, listed %v", *f.LogZ, logZ)
		}
		if math.Abs(math.Log(*f.MaxReward)-best) > 1e-12*max(1, math.Abs(best)) {
			t.Errorf("max reward = %v, listed %v", *f.MaxReward, math.Exp(best))
		}
		modes := map[int]bool{}
		s, m := env.NewStates(1), env.(envs.Moded)
		for cell := range e.NumStates() {
			e.Load(s, 0, cell)
			if m.Mode(s, 0) != -1 {
				t.Fatalf("unfinished %s has a mode", s.Text(0))
			}
			if err := s.Forward([]int32{0}, []int32{int32(c.Dim)}); err != nil {
				t.Fatal(err)
			}
			if mode := m.Mode(s, 0); mode >= 0 {
				modes[mode] = true
			}
		}
		if len(modes) != m.NumModes() || (f.Modes == nil) != (len(modes) == 0) || f.Modes != nil && *f.Modes != float64(len(modes)) {
			t.Errorf("%d modes listed, %d numbered, %v in the facts", len(modes), m.NumModes(), f.Modes)
		}
	})
}

func TestModesAreCorners(t *testing.T) {
	env := build(t, shape(2, 16))
	s, m := env.NewStates(1), env.(envs.Moded)
	for text, want := range map[string]int{
		"(2,2)": 0, "(12,2)": 1, "(13,2)": 1, "(2,13)": 2, "(12,13)": 3, "(13,12)": 3,
		"(0,2)": -1, "(3,3)": -1, "(15,15)": -1, "(7,8)": -1,
	} {
		if err := s.Parse(0, text); err != nil {
			t.Fatal(err)
		}
		if got := m.Mode(s, 0); got != want {
			t.Errorf("mode of %s = %d, want %d", text, got, want)
		}
	}
}

// TestLargeGrids have exact facts though nothing could list them.
func TestLargeGrids(t *testing.T) {
	for _, c := range []struct {
		dim, numbered int
		modes         float64
	}{{10, 1024, 1024}, {24, 1 << 24, 1 << 24}, {25, 0, 1 << 25}, {333, 0, math.Pow(2, 333)}} {
		env := build(t, shape(c.dim, 8))
		if _, err := envs.Enumerate(env); !errors.Is(err, envs.ErrNotEnumerable) {
			t.Errorf("%d-D: %v", c.dim, err)
		}
		f := env.(envs.Described).Facts()
		if f.Modes == nil || *f.Modes != c.modes || env.(envs.Moded).NumModes() != c.numbered {
			t.Errorf("%d-D: %v modes, %d numbered", c.dim, f.Modes, env.(envs.Moded).NumModes())
		}
		// 2^D cells in bumps of 2.501, 4^D − 2^D of 0.501, the rest of 0.001;
		// in high dimensions the rest is all that counts.
		d := float64(c.dim)
		want := math.Log(0.001) + d*math.Log(8) +
			math.Log1p(math.Exp(d*math.Log(0.5))*500+math.Exp(d*math.Log(0.25))*2000)
		near(t, "log Z", *f.LogZ, want, 1e-13)
	}
	if e, err := envs.Enumerate(build(t, shape(7, 8))); err != nil || e.NumStates() != 1<<21 {
		t.Errorf("7-D height 8: %v", err)
	}
	// The multisets of 6 distinct factors in 60 coordinates are too many to sum.
	f := build(t, func(c *hypergrid.Config) {
		c.Dim, c.Height, c.Reward, c.Exponent = 60, 12, hypergrid.Cosine, 2
	}).(envs.Described).Facts()
	if f.LogZ != nil || f.Modes != nil {
		t.Errorf("cosine, squared, 60-D: %+v", f)
	}
	f = build(t, func(c *hypergrid.Config) { c.R2, c.Exponent = 1e30, 50 }).(envs.Described).Facts()
	if f.MaxReward != nil || math.IsInf(*f.LogZ, 0) {
		t.Errorf("overflowing reward: %+v", f)
	}
}

func TestRefusedConfigs(t *testing.T) {
	for _, c := range []struct {
		path   string
		change func(*hypergrid.Config)
	}{
		{"dim", func(c *hypergrid.Config) { c.Dim = 0 }},
		{"height", func(c *hypergrid.Config) { c.Height = 1 }},
		{"dim", func(c *hypergrid.Config) { c.Dim = 100_000 }},
		{"dim", func(c *hypergrid.Config) { c.Dim, c.Height = 2, 1<<62 }},
		{"dim", func(c *hypergrid.Config) { c.Dim = 334 }},
		{"r0", func(c *hypergrid.Config) { c.R0 = 0 }},
		{"r0", func(c *hypergrid.Config) { c.R0 = -1 }},
		{"r0", func(c *hypergrid.Config) { c.R0 = math.NaN() }},
		{"r0", func(c *hypergrid.Config) { c.R0 = math.Inf(1) }},
		{"r0", func(c *hypergrid.Config) { c.R1, c.R2 = math.MaxFloat64, math.MaxFloat64 }},
		{"r1", func(c *hypergrid.Config) { c.R1 = -0.5 }},
		{"r2", func(c *hypergrid.Config) { c.R2 = math.NaN() }},
		{"reward", func(c *hypergrid.Config) { c.Reward = "cosin" }},
		{"height", func(c *hypergrid.Config) { c.Reward, c.Height = hypergrid.Sparse, 3 }},
		{"exponent", func(c *hypergrid.Config) { c.Exponent = 0 }},
		{"exponent", func(c *hypergrid.Config) { c.Exponent = 1e7 }},
	} {
		cfg := hypergrid.Default()
		c.change(&cfg)
		_, err := hypergrid.New(cfg)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path {
			t.Errorf("%+v: %v; want a fault of %s", cfg, err, c.path)
		}
	}
	_, err := hypergrid.New(hypergrid.Config{})
	if n := len(strings.Split(err.Error(), "\n")); n != 5 {
		t.Errorf("%d faults in the empty configuration:\n%v", n, err)
	}
}

// TestHotPathDoesNotAllocate: sampling calls these for every step of every row.
func TestHotPathDoesNotAllocate(t *testing.T) {
	env := build(t, shape(4, 8))
	spec := env.Spec()
	const n = 16
	s := env.NewStates(n)
	rows, actions, out := make([]int32, n), make([]int32, n), make([]int32, n)
	for i := range rows {
		rows[i], actions[i] = int32(i), int32(i%4)
	}
	stop, logR := make([]int32, n), make([]float64, n)
	for i := range stop {
		stop[i] = 4
	}
	fwd, back := make([]bool, spec.Actions), make([]bool, spec.BackwardActions)
	var key []byte
	var features []int32
	step := func() {
		s.Reset(rows)
		if err := s.Forward(rows, actions); err != nil {
			t.Fatal(err)
		}
		s.BackwardOf(rows, actions, out)
		s.ForwardOf(rows, out, out)
		for row := range n {
			s.ForwardMask(row, fwd)
			s.BackwardMask(row, back)
			key = s.AppendKey(key[:0], row)
			features = s.AppendFeatures(features[:0], row)
		}
		if err := errors.Join(s.Backward(rows, actions), s.Forward(rows, stop), s.LogReward(rows, logR)); err != nil {
			t.Fatal(err)
		}
		s.CopyRow(0, s, 1)
	}
	step()
	if allocs := testing.AllocsPerRun(50, step); allocs > 0 {
		t.Errorf("%v allocations a step", allocs)
	}
}

// TestFaultsNameRowAndAction also covers a row that is named twice in a batch.
func TestFaultsNameRowAndAction(t *testing.T) {
	s := build(t, shape(2, 2)).NewStates(3)
	err := s.Forward([]int32{2, 2}, []int32{1, 1})
	if err == nil || !strings.Contains(err.Error(), "row 2: forward action 1 is illegal in unfinished (0,1)") {
		t.Errorf("%v", err)
	}
	if s.Text(2) != "(0,0)" {
		t.Errorf("row 2 moved to %s", s.Text(2))
	}
	err = s.LogReward([]int32{1}, make([]float64, 1))
	if err == nil || !strings.Contains(err.Error(), "row 1") {
		t.Errorf("%v", err)
	}
}

func BenchmarkRollout(b *testing.B) {
	env := build(b, shape(4, 8))
	const n = 64
	s := env.NewStates(n)
	rows, actions := make([]int32, n), make([]int32, n)
	for i := range rows {
		rows[i], actions[i] = int32(i), int32(i%4)
	}
	mask := make([]bool, env.Spec().Actions)
	var features []int32
	for b.Loop() {
		s.Reset(rows)
		for range 7 {
			for row := range n {
				s.ForwardMask(row, mask)
				features = s.AppendFeatures(features[:0], row)
			}
			if err := s.Forward(rows, actions); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*7*n), "ns/step")
}
