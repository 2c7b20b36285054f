package envs_test

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/envs/mixture"
)

func grid(t testing.TB, dim, height int) envs.Enumerable {
	t.Helper()
	c := hypergrid.Default()
	c.Dim, c.Height = dim, height
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

// table is a policy with given log-probabilities.
func table(rows []float32, actions int) envs.LogPolicy {
	return func(first int, out []float32) error {
		copy(out, rows[first*actions:])
		return nil
	}
}

// randomPolicy draws a policy row by row.
func randomPolicy(t *rapid.T, e envs.Enumerable) []float32 {
	actions := e.Spec().Actions
	rows := make([]float32, e.NumStates()*actions)
	if err := envs.Uniform(e)(0, rows); err != nil {
		t.Fatal(err)
	}
	for s := 0; s < len(rows); s += actions {
		row, sum := rows[s:s+actions], 0.0
		for a, lp := range row {
			if !math.IsInf(float64(lp), -1) {
				row[a] = float32(rapid.Float64Range(-6, 6).Draw(t, "logit"))
				sum += math.Exp(float64(row[a]))
			}
		}
		for a := range row {
			row[a] -= float32(math.Log(sum))
		}
	}
	return rows
}

// TestTerminatingIsTheSumOverTrajectories is the definition: P(x) is the sum of
// the probabilities of all trajectories that end in x.
func TestTerminatingIsTheSumOverTrajectories(t *testing.T) {
	e := grid(t, 2, 4)
	actions := e.Spec().Actions
	rapid.Check(t, func(t *rapid.T) {
		rows := randomPolicy(t, e)
		want := make([]float64, e.NumObjects())
		envs.Trajectories(e, func(p envs.Path) bool {
			lp := 0.0
			for i, s := range p.States {
				lp += float64(rows[s*actions+int(p.Actions[i])])
			}
			want[p.Object] += math.Exp(lp)
			return true
		})
		got, err := envs.Terminating(e, table(rows, actions))
		if err != nil {
			t.Fatal(err)
		}
		for x, lp := range got {
			if math.Abs(math.Exp(lp)-want[x]) > 1e-13 {
				t.Fatalf("object %d: %v, want %v", x, math.Exp(lp), want[x])
			}
		}
	})
}

// TestFlowMatchedPolicySamplesTheTarget builds the policy that a perfect
// learner reaches with uniform P_B, in more states than one chunk: the flow of
// a state is its reward plus what its children send back.
func TestFlowMatchedPolicySamplesTheTarget(t *testing.T) {
	e := grid(t, 4, 9) // 6,561 states
	actions := e.Spec().Actions
	target, _ := envs.Target(e)
	s, mask, back := e.NewStates(1), make([]bool, actions), make([]bool, actions-1)
	parents := func(state int) (n float64) {
		e.Load(s, 0, state)
		s.BackwardMask(0, back)
		for _, ok := range back {
			if ok {
				n++
			}
		}
		return n
	}
	flow := make([]float64, e.NumStates())
	rows := make([]float32, e.NumStates()*actions)
	for state := e.NumStates() - 1; state >= 0; state-- {
		edge := make([]float64, actions)
		e.Load(s, 0, state)
		s.ForwardMask(0, mask)
		for a, ok := range mask {
			if !ok {
				continue
			}
			if to, terminal := e.Child(state, a); terminal {
				edge[a] = math.Exp(target[to])
			} else {
				edge[a] = flow[to] / parents(to)
			}
			flow[state] += edge[a]
		}
		for a, f := range edge {
			rows[state*actions+a] = float32(math.Log(f / flow[state]))
		}
	}
	if math.Abs(flow[0]-1) > 1e-12 {
		t.Fatalf("flow of s0 is %v, want 1", flow[0])
	}
	got, err := envs.Terminating(e, table(rows, actions))
	if err != nil {
		t.Fatal(err)
	}
	for x, lp := range got {
		if math.Abs(lp-target[x]) > 1e-5 {
			t.Fatalf("object %d: log-probability %v, want %v", x, lp, target[x])
		}
	}
}

// TestLongTrajectoriesDoNotUnderflow: the far corner of this grid has a
// probability of about 1e-600, below the smallest float64.
func TestLongTrajectoriesDoNotUnderflow(t *testing.T) {
	e := grid(t, 1, 2000)
	got, err := envs.Terminating(e, envs.Uniform(e))
	if err != nil {
		t.Fatal(err)
	}
	// 1,999 steps at ½, then a stop that is forced.
	if want := -1999 * math.Ln2; math.Abs(got[1999]-want) > 1e-3 {
		t.Errorf("log-probability %v, want %v", got[1999], want)
	}
}

func TestTerminatingRefusesWhatIsNoPolicy(t *testing.T) {
	e := grid(t, 2, 4)
	actions := e.Spec().Actions
	fail := errors.New("no weights")
	for what, c := range map[string]struct {
		change func(rows []float32)
		want   error
	}{
		"NaN":             {func(r []float32) { r[4] = float32(math.NaN()) }, envs.ErrPolicy},
		"above one":       {func(r []float32) { r[4] = 0.5 }, envs.ErrPolicy},
		"adds up to less": {func(r []float32) { r[0] -= 1 }, envs.ErrPolicy},
		"failure":         {nil, fail},
	} {
		rows := make([]float32, e.NumStates()*actions)
		if err := envs.Uniform(e)(0, rows); err != nil {
			t.Fatal(err)
		}
		p := func(int, []float32) error { return fail }
		if c.change != nil {
			c.change(rows)
			p = table(rows, actions)
		}
		if _, err := envs.Terminating(e, p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTrajectories(t *testing.T) {
	for _, c := range []struct {
		dim, height int
		want        float64
	}{
		{1, 5, 5},
		{2, 2, 5}, // stop in s0, in either neighbour, and two ways to the far corner
		{2, 4, 69},
		{3, 3, 271},
	} {
		e := grid(t, c.dim, c.height)
		n := 0.0
		envs.Trajectories(e, func(p envs.Path) bool {
			n++
			if len(p.States) != len(p.Actions) || len(p.Actions) > e.Spec().MaxSteps {
				t.Fatalf("%d states, %d actions", len(p.States), len(p.Actions))
			}
			return true
		})
		if count := envs.CountTrajectories(e); n != count || c.want != count {
			t.Errorf("%d-D height %d: %v trajectories listed, %v counted, want %v", c.dim, c.height, n, count, c.want)
		}
	}
	seen := 0
	envs.Trajectories(grid(t, 2, 4), func(envs.Path) bool { seen++; return seen < 7 })
	if seen != 7 {
		t.Errorf("%d trajectories after a stop at 7", seen)
	}
}

// plain hides what an environment says of itself, and crowded claims to be large.
type plain struct{ envs.Enumerable }

type moded struct {
	plain
	envs.Moded
}

func (m moded) Spec() envs.Spec             { return m.plain.Spec() }
func (m moded) NewStates(n int) envs.States { return m.plain.NewStates(n) }

type crowded struct{ envs.Enumerable }

func (crowded) NumObjects() int { return envs.MaxStates + 1 }

func TestEnumerate(t *testing.T) {
	e := grid(t, 2, 4)
	for what, env := range map[string]envs.Env{
		"too many objects": crowded{e},
		"no list":          struct{ envs.Env }{e},
	} {
		if _, err := envs.Enumerate(env); !errors.Is(err, envs.ErrNotEnumerable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestFactsOf(t *testing.T) {
	e := grid(t, 2, 8)
	want := envs.FactsOf(e)
	got := envs.FactsOf(moded{plain{e}, e.(envs.Moded)})
	if *got.Cells != *want.Cells || got.MaxSteps != want.MaxSteps || *got.Modes != *want.Modes ||
		math.Abs(*got.LogZ-*want.LogZ) > 1e-12 || math.Abs(*got.MaxReward-*want.MaxReward) > 1e-12 {
		t.Errorf("by listing %+v, closed form %+v", got, want)
	}
	if f := envs.FactsOf(struct{ envs.Env }{e}); f.Cells != nil || f.LogZ != nil || f.Modes != nil || f.MaxReward != nil || f.MaxSteps != want.MaxSteps {
		t.Errorf("without a list: %+v", f)
	}
}

// TestFactsBeyondAFloat: a largest reward that no float64 holds is unknown, and log Z is not.
func TestFactsBeyondAFloat(t *testing.T) {
	env, err := mixture.NewCategorical(mixture.CategoricalConfig{LogRewards: []float64{1000, 1000}})
	if err != nil {
		t.Fatal(err)
	}
	f := envs.FactsOf(struct{ envs.Enumerable }{env.(envs.Enumerable)}) // without facts of its own
	if f.MaxReward != nil || f.LogZ == nil || math.Abs(*f.LogZ-1000-math.Ln2) > 1e-12 {
		t.Errorf("%+v", f)
	}
}
