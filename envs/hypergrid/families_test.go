package hypergrid_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
)

// rewardOf reads a cell and returns its reward and mode.
func rewardOf(t *testing.T, env envs.Env, text string) (reward float64, mode int) {
	t.Helper()
	s, out := env.NewStates(1), make([]float64, 1)
	if err := errors.Join(s.Parse(0, text), s.LogReward([]int32{0}, out)); err != nil {
		t.Fatal(err)
	}
	return math.Exp(out[0]), env.(envs.Moded).Mode(s, 0)
}

// TestDeceptiveReward draws the 16 x 16 grid: X has R2, + has R1, and what has
// neither is between them. It is the picture in torchgfn's source.
func TestDeceptiveReward(t *testing.T) {
	env := build(t, func(c *hypergrid.Config) {
		c.Dim, c.Height, c.R0, c.R1, c.R2, c.Reward = 2, 16, 1e-5, 0.1, 2, hypergrid.Deceptive
	})
	e, err := envs.Enumerate(env)
	if err != nil {
		t.Fatal(err)
	}
	logR := make([]float64, 256)
	e.LogRewards(logR)
	var picture strings.Builder
	for y := range 16 {
		for x := range 16 {
			switch r := math.Exp(logR[16*y+x]); {
			case math.Abs(r-2.00001) < 1e-9:
				picture.WriteByte('X')
			case math.Abs(r-0.10001) < 1e-9:
				picture.WriteByte('+')
			case math.Abs(r-1e-5) < 1e-12:
				picture.WriteByte('.')
			default:
				t.Fatalf("(%d,%d) has reward %v", x, y, r)
			}
		}
		picture.WriteByte('\n')
	}
	plain, bumps, cross := "......++++......\n", "..X...++++...X..\n", "++++++++++++++++\n"
	want := plain + plain + bumps + strings.Repeat(plain, 3) + strings.Repeat(cross, 4) + strings.Repeat(plain, 3) + bumps + plain + plain
	if picture.String() != want {
		t.Errorf("got\n%s", picture.String())
	}
	if _, mode := rewardOf(t, env, "(13,2)"); mode != 1 || env.(envs.Moded).NumModes() != 4 {
		t.Errorf("mode %d", mode)
	}
}

func TestSparseReward(t *testing.T) {
	env := build(t, func(c *hypergrid.Config) {
		c.Dim, c.Height, c.R0, c.R1, c.Reward = 3, 8, 1e-12, 1, hypergrid.Sparse
	})
	for text, mode := range map[string]int{"(1,1,1)": -1, "(6,1,1)": 0, "(1,6,1)": 1, "(6,6,6)": 6, "(6,6,5)": -1, "(0,0,0)": -1} {
		want := 1e-12
		if mode >= 0 {
			want = 1 + 1e-12
		}
		if r, m := rewardOf(t, env, text); math.Abs(r-want) > 1e-14*want || m != mode {
			t.Errorf("%s has reward %v and mode %d, want %v and %d", text, r, m, want, mode)
		}
	}
	if f := envs.FactsOf(env); *f.Modes != 7 || math.Abs(*f.LogZ-math.Log(7+512e-12)) > 1e-14 {
		t.Errorf("%v modes, log Z %v", *f.Modes, *f.LogZ)
	}
}

func TestCornerReward(t *testing.T) {
	env := build(t, func(c *hypergrid.Config) {
		c.Dim, c.Height, c.R0, c.R1, c.Reward, c.Exponent = 2, 9, 0.01, 2, hypergrid.Corner, 3
	})
	// u = x/4 - 1: 1 and 7 are at the centres of the humps.
	for text, want := range map[string]float64{"(1,7)": 2, "(1,1)": 2, "(0,1)": 2 * math.Exp(-0.0625/0.1), "(4,4)": 2 * math.Exp(-2*0.5625/0.1)} {
		if r, _ := rewardOf(t, env, text); math.Abs(math.Log(r)-3*math.Log(0.01+want)) > 1e-12 {
			t.Errorf("%s has reward %v, want (0.01 + %v)^3", text, r, want)
		}
	}
}

// TestLargeFamilies have exact facts though nothing could list them.
func TestLargeFamilies(t *testing.T) {
	sparse := envs.FactsOf(build(t, func(c *hypergrid.Config) { c.Dim, c.R0, c.Reward = 40, 1e-40, hypergrid.Sparse }))
	targets := math.Pow(2, 40) - 1
	near(t, "log Z", *sparse.LogZ, math.Log(targets*0.5+math.Pow(8, 40)*1e-40), 1e-13)
	if *sparse.Modes != targets {
		t.Errorf("%v targets", *sparse.Modes)
	}
	deceptive := envs.FactsOf(build(t, func(c *hypergrid.Config) { c.Dim, c.Height, c.Reward = 30, 16, hypergrid.Deceptive }))
	// 2 values in the band, 4 inside, 10 between.
	d := 30.0
	want := math.Pow(2, d)*2.001 + (math.Pow(12, d)-math.Pow(2, d))*0.001 + (math.Pow(16, d)-math.Pow(12, d))*0.501
	near(t, "log Z", *deceptive.LogZ, math.Log(want), 1e-13)
}
