package metrics_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/conditional"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/envs/mixture"
	"github.com/driftmesh/driftmesh/metrics"
)

// TestTop: equal objects count once, the k best are averaged, and two cells
// that share one of two coordinates have 1 of 3 features in common.
func TestTop(t *testing.T) {
	e := grid(t, func(c *hypergrid.Config) { c.Dim = 2 })
	texts := []string{"(1,1)", "(6,1)", "(1,1)", "(6,6)", "(3,3)", "(0,0)"}
	s, rows, lr := e.NewStates(len(texts)), make([]int32, len(texts)), make([]float64, len(texts))
	for i, text := range texts {
		rows[i] = int32(i)
		if err := s.Parse(i, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.LogReward(rows, lr); err != nil {
		t.Fatal(err)
	}
	best := func(k, n int) metrics.TopK {
		top := metrics.NewTop(e, k)
		for i := range n {
			top.Add(s, i, lr[i])
		}
		return top.Report()
	}
	got := best(3, len(texts)) // the modes (1,1), (6,1), (6,6)
	if got.K != 3 || got.Distinct != 5 {
		t.Errorf("%+v", got)
	}
	near(t, "log-reward", got.LogReward, math.Log(2.501), 1e-12)
	near(t, "reward", got.Reward, 2.501, 1e-12)
	near(t, "diversity", got.Diversity, (0.5+0.5+1)/3, 1e-12) // of two places
	all := best(100, len(texts))
	near(t, "reward of all", all.Reward, (3*2.501+0.501+0.001)/5, 1e-12)
	if one := best(1, len(texts)); one.K != 1 || !math.IsNaN(one.Diversity) {
		t.Errorf("%+v", one)
	}
	if none := best(5, 0); none.K != 0 || !math.IsNaN(none.Reward) {
		t.Errorf("%+v", none)
	} else if text, err := json.Marshal(none); err != nil || !strings.Contains(string(text), `"k":0,"distinct":0,"log_reward":null`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestConditionsAreApart: one cell under two conditions is two objects, which differ
// at one of three places.
func TestConditionsAreApart(t *testing.T) {
	e, err := conditional.New(conditional.Default())
	if err != nil {
		t.Fatal(err)
	}
	top, s := metrics.NewTop(e, 9), e.NewStates(1)
	for _, text := range []string{"beta=0.25 (3,0)", "beta=0.5 (3,0)", "beta=1 (3,0)"} {
		if err := s.Parse(0, text); err != nil {
			t.Fatal(err)
		}
		top.Add(s, 0, 0)
	}
	near(t, "diversity of a cell", top.Report().Diversity, 1./3, 1e-12)
	if err := s.Parse(0, "beta=1 (4,1)"); err != nil {
		t.Fatal(err)
	}
	top.Add(s, 0, 0)
	near(t, "with another", top.Report().Diversity, (3*1./3+2*1+2./3)/6, 1e-12)
}

// TestOneStepObjectsAreApart: the objects of one-step environments have no features of
// their own to policies, and are at a distance all the same: cells by the share of the
// coordinates that differ.
func TestOneStepObjectsAreApart(t *testing.T) {
	plane := mixture.Default()
	plane.Dim, plane.Cells = 2, 9
	build := func(env envs.Env, err error) envs.Env {
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	for _, c := range []struct {
		env   envs.Env
		texts string
		want  float64
	}{
		{build(mixture.NewCategorical(mixture.DefaultCategorical())), "(0) (1) (3)", 1},
		{build(mixture.New(mixture.Default())), "(7) (8) (63)", 1},
		{build(mixture.New(plane)), "(1,2) (1,3) (2,1)", (0.5 + 1 + 1) / 3},
	} {
		top, s := metrics.NewTop(c.env, 9), c.env.NewStates(1)
		for text := range strings.FieldsSeq(c.texts) {
			if err := s.Parse(0, text); err != nil {
				t.Fatal(err)
			}
			top.Add(s, 0, 0)
		}
		near(t, c.env.Spec().Name, top.Report().Diversity, c.want, 1e-12)
	}
}

// TestDistanceIsAMetric over features and over sequences, and is computed as
// defined there.
func TestDistanceIsAMetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := envs.Marks{Features: 12}
		sequence := rapid.Bool().Draw(t, "sequence")
		if sequence {
			spec.Positions, spec.Vocabulary, spec.Features = 4, 3, 12+rapid.IntRange(0, 2).Draw(t, "further")
		}
		further := spec.Features - 12
		draw := func(name string) (features []int32, tokens [5]int) {
			if !sequence {
				for f, on := range rapid.SliceOfN(rapid.Bool(), 12, 12).Draw(t, name) {
					if on {
						features = append(features, int32(f))
					}
				}
				return features, tokens
			}
			for p := range 4 { // 3 is an empty place
				if tokens[p] = rapid.IntRange(0, 3).Draw(t, name); tokens[p] < 3 {
					features = append(features, int32(3*p+tokens[p]))
				}
			}
			for f := range rapid.IntRange(0, further).Draw(t, "condition") { // a thermometer
				features = append(features, int32(12+f))
				tokens[4]++
			}
			return features, tokens
		}
		a, ta := draw("a")
		b, tb := draw("b")
		c, _ := draw("c")
		ab := metrics.Distance(&spec, a, b)
		switch {
		case metrics.Distance(&spec, a, a) != 0 || ab != metrics.Distance(&spec, b, a) || ab < 0 || ab > 1:
			t.Fatalf("distance %v of %v and %v", ab, a, b)
		case ab > metrics.Distance(&spec, a, c)+metrics.Distance(&spec, c, b)+1e-12:
			t.Fatalf("the way over %v is shorter", c)
		}
		if sequence { // the condition is one more position
			n := 0
			for p := range ta {
				if ta[p] != tb[p] {
					n++
				}
			}
			of := 4
			if further > 0 {
				of = 5
			}
			if ab != float64(n)/float64(of) {
				t.Fatalf("%v and %v: %v, want %d of %d", ta, tb, ab, n, of)
			}
		}
	})
}
