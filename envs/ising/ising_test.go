package ising_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/envtest"
	"github.com/driftmesh/driftmesh/envs/ising"
	"github.com/driftmesh/driftmesh/envs/places"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

func build(t testing.TB, l1, l2 int, sigma float64, order string) envs.Env {
	t.Helper()
	env, err := ising.New(ising.Config{L1: l1, L2: l2, Sigma: sigma, Order: order})
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func TestContract(t *testing.T) {
	for _, c := range []struct {
		l1, l2 int
		sigma  float64
		order  string
	}{
		{3, 3, 0.1, places.Any},
		{3, 3, -0.3, places.Left},
		{3, 4, 0.2, places.Left},
		{6, 6, 0.2, places.Any},  // not listed
		{4, 7, 0.2, places.Left}, // not listed
	} {
		t.Run(fmt.Sprintf("%dx%d %v %s", c.l1, c.l2, c.sigma, c.order), func(t *testing.T) {
			envtest.Run(t, build(t, c.l1, c.l2, c.sigma, c.order))
		})
	}
}

func TestReferenceLogZ(t *testing.T) {
	data, err := os.ReadFile("testdata/ising.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		L1, L2   int
		Sigma    float64
		LogZ     float64 `json:"log_z"`
		AllEqual float64 `json:"log_reward_all_equal"`
	}
	if err := json.Unmarshal(data, &rows); err != nil || len(rows) != 2 {
		t.Fatalf("%v, %d rows", err, len(rows))
	}
	for _, r := range rows {
		env := build(t, r.L1, r.L2, r.Sigma, places.Any)
		f := envs.FactsOf(env)
		if d := math.Abs(*f.LogZ - r.LogZ); d > 1e-13*r.LogZ {
			t.Errorf("log Z at sigma %v is %.17g, want %.17g", r.Sigma, *f.LogZ, r.LogZ)
		}
		s, out := env.NewStates(1), make([]float64, 1)
		row := strings.Repeat("-", r.L2)
		if err := errors.Join(s.Parse(0, row+strings.Repeat("/"+row, r.L1-1)), s.LogReward([]int32{0}, out)); err != nil {
			t.Fatal(err)
		}
		if math.Abs(out[0]-r.AllEqual) > 1e-14*r.AllEqual || math.Abs(math.Log(*f.MaxReward)-r.AllEqual) > 1e-12 {
			t.Errorf("aligned: %v and %v, want %v", out[0], math.Log(*f.MaxReward), r.AllEqual)
		}
	}
}

// TestLogZOfListed: the transfer matrix gives what listing the objects gives, for
// both signs of sigma and both orientations of the lattice.
func TestLogZOfListed(t *testing.T) {
	for _, sides := range [][2]int{{3, 3}, {3, 5}, {5, 3}, {4, 4}} {
		for _, sigma := range []float64{0, 0.05, 0.22, 1.5, -0.2, -2} {
			env := build(t, sides[0], sides[1], sigma, places.Left)
			e, err := envs.Enumerate(env)
			if err != nil {
				t.Fatal(err)
			}
			_, want := envs.Target(e)
			if got := *envs.FactsOf(env).LogZ; math.Abs(got-want) > 1e-12*max(1, want) {
				t.Errorf("%v at sigma %v: log Z %.17g, listed %.17g", sides, sigma, got, want)
			}
		}
	}
}

// TestLogZOfLarge compares with Kaufman's closed form, which is for ferromagnets.
func TestLogZOfLarge(t *testing.T) {
	for _, c := range []struct {
		l1, l2 int
		sigma  float64
	}{{12, 12, 0.1}, {10, 10, 0.3}, {8, 30, 0.22}, {100, 4, 0.5}} {
		got := *envs.FactsOf(build(t, c.l1, c.l2, c.sigma, places.Any)).LogZ
		if want := kaufman(c.l1, c.l2, 2*c.sigma); math.Abs(got-want) > 1e-11*want {
			t.Errorf("%+v: log Z %.17g, want %.17g", c, got, want)
		}
	}
	if z := envs.FactsOf(build(t, 13, 13, 0.1, places.Any)).LogZ; z != nil {
		t.Errorf("log Z of 13 x 13 is %v; a transfer matrix of that size is not computed", *z)
	}
}

// kaufman is log Z of an n × m torus with coupling k > 0 (Kaufman, Phys. Rev. 76,
// 1949): four products over the m odd and m even modes of a row.
func kaufman(n, m int, k float64) float64 {
	star := -0.5 * math.Log(math.Tanh(k))
	gamma := func(q int) float64 {
		if q == 0 {
			return 2 * (k - star)
		}
		c := math.Cosh(2*k)*math.Cosh(2*star) - math.Cos(math.Pi*float64(q)/float64(m))
		return math.Acosh(c)
	}
	// Each product has the factor e^(n|gamma|/2) taken out of every term.
	var logs [4]float64
	signs := [4]float64{1, 1, 1, 1}
	for r := range m {
		for parity := range 2 {
			g := gamma(2*r + 1 - parity)
			a := math.Abs(g) * float64(n) / 2
			logs[2*parity] += a + math.Log1p(math.Exp(-2*a))
			logs[2*parity+1] += a + math.Log(-math.Expm1(-2*a))
			if g < 0 {
				signs[2*parity+1] = -signs[2*parity+1]
			}
		}
	}
	top := logs[0]
	sum := 0.0
	for i, l := range logs {
		sum += signs[i] * math.Exp(l-top)
	}
	return -math.Ln2 + float64(n*m)/2*math.Log(2*math.Sinh(2*k)) + top + math.Log(sum)
}

// TestLogZOfStrongCouplings: what float64 cannot hold row by row is known all the
// same where no bond is frustrated, and is not made up where one is.
func TestLogZOfStrongCouplings(t *testing.T) {
	for _, c := range []struct {
		l1, l2 int
		sigma  float64
		known  bool
	}{
		{6, 6, 8, true}, {6, 6, 13, true}, {6, 6, 90, true}, {9, 9, 50, true}, {1000, 12, 1000, true}, {5, 7, 1000, true},
		{6, 6, -13, true}, {6, 6, -100, true}, {12, 4, -1000, true},
		{5, 6, -100, false}, {6, 5, -100, false}, {9, 9, -20, false}, {3, 3, -1000, false},
	} {
		z := envs.FactsOf(build(t, c.l1, c.l2, c.sigma, places.Any)).LogZ
		if z == nil || !c.known {
			if (z != nil) != c.known {
				t.Errorf("%+v: log Z known: %v", c, z != nil)
			}
			continue
		}
		// All else is at least 8|sigma| below the two ground states for each bond that it breaks.
		if want := 4*math.Abs(c.sigma)*float64(c.l1*c.l2) + math.Ln2; !(math.Abs(*z-want) <= 1e-13*want) {
			t.Errorf("%+v: log Z %v, want %v", c, *z, want)
		}
	}
	// The ground states of a 5 by 5 antiferromagnet break five bonds of each direction.
	a := *envs.FactsOf(build(t, 5, 5, -10, places.Any)).LogZ
	b := *envs.FactsOf(build(t, 5, 5, -8, places.Any)).LogZ
	if want := 2 * 2 * (50 - 2*10.0); math.Abs(a-b-want) > 1e-10 {
		t.Errorf("log Z grows by %v, want %v", a-b, want)
	}
}

// TestPotential: nothing at s0, log R at the end, and on the way the change of a
// step is that of the bonds which it closes.
func TestPotential(t *testing.T) {
	env := build(t, 3, 3, 0.25, places.Any)
	s := env.NewStates(1)
	p, ok := s.(envs.Potential)
	if !ok {
		t.Fatal("no potential")
	}
	row, out := []int32{0}, []float64{math.NaN()}
	want := []float64{0, 0, 0.5, 0.5, 1, 0.5} // up at 0, up at 1, down at 5, up at 6, down at 2
	for i, w := range want {
		if i > 0 {
			action := []int32{0*2 + 1, 1*2 + 1, 5 * 2, 6*2 + 1, 2 * 2}[i-1]
			if err := s.Forward(row, []int32{action}); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.LogPotential(row, out); err != nil {
			t.Fatal(err)
		}
		if out[0] != w {
			t.Errorf("%s: potential %v, want %v", s.Text(0), out[0], w)
		}
	}
	lr := []float64{0}
	for _, text := range []string{"+-+/--+/+++", "---/+-+/-++"} {
		if err := errors.Join(s.Parse(0, text), s.LogReward(row, lr), p.LogPotential(row, out)); err != nil {
			t.Fatal(err)
		}
		if out[0] != lr[0] {
			t.Errorf("%s: potential %v, log-reward %v", text, out[0], lr[0])
		}
	}
}

func TestParseRefuses(t *testing.T) {
	s := build(t, 3, 4, 0.1, places.Any).NewStates(1)
	for _, text := range []string{"", "++++/++++", "+++++/+++/++++", "++++/+.++/++++", "++++/++++/++++/++++", "1111/1111/1111"} {
		if err := s.Parse(0, text); !errors.Is(err, places.ErrText) {
			t.Errorf("Parse(%q) = %v", text, err)
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		c    ising.Config
		path string
	}{
		{ising.Config{L1: 2, L2: 6, Order: places.Any}, "l1"},
		{ising.Config{L1: 6, L2: 2000, Order: places.Any}, "l2"},
		{ising.Config{L1: 500, L2: 500, Order: places.Any}, "l1"},
		{ising.Config{L1: 6, L2: 6, Sigma: math.NaN(), Order: places.Any}, "sigma"},
		{ising.Config{L1: 6, L2: 6, Order: "right"}, "order"},
	} {
		_, err := ising.New(c.c)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path {
			t.Errorf("%+v: %v", c.c, err)
		}
	}
}
