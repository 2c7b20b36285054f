package policy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/policy/policytest"
)

func grid(t testing.TB, dim, height int) envs.Env {
	t.Helper()
	c := hypergrid.Default()
	c.Dim, c.Height = dim, height
	env, err := hypergrid.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// walk draws n trajectories with uniform actions, one after another.
func walk(t testing.TB, r *rand.Rand, env envs.Env, n int) [][]int32 {
	t.Helper()
	spec, out := env.Spec(), make([][]int32, n)
	mask := make([]bool, spec.Actions)
	for i := range out {
		for s := env.NewStates(1); !s.Terminal(0); {
			s.ForwardMask(0, mask)
			a := int32(r.IntN(spec.Actions))
			if !mask[a] {
				continue
			}
			if err := s.Forward([]int32{0}, []int32{a}); err != nil {
				t.Fatal(err)
			}
			out[i] = append(out[i], a)
		}
	}
	return out
}

// step is one transition as a reader of the batch sees it: features and masks
// instead of a state's number.
type step struct {
	features, forward, backward string
	action                      int32
}

// stepsOf lists trajectory i of b.
func stepsOf(b *policy.Batch, spec envs.Spec, i int) (forward, backward []step) {
	at := func(state, action int32) step {
		s := &b.States
		return step{
			features: fmt.Sprint(s.FeatIndex[s.FeatOffset[state]:s.FeatOffset[state+1]]),
			forward:  fmt.Sprint(s.ForwardMask[int(state)*spec.Actions:][:spec.Actions]),
			backward: fmt.Sprint(s.BackwardMask[int(state)*spec.BackwardActions:][:spec.BackwardActions]),
			action:   action,
		}
	}
	for t := b.FOffset[i]; t < b.FOffset[i+1]; t++ {
		forward = append(forward, at(b.FState[t], b.FAction[t]))
	}
	for t := b.BOffset[i]; t < b.BOffset[i+1]; t++ {
		backward = append(backward, at(b.BState[t], b.BAction[t]))
	}
	return forward, backward
}

// replay lists the same steps by walking one trajectory alone.
func replay(t testing.TB, env envs.Env, actions []int32) (forward, backward []step) {
	t.Helper()
	spec, s := env.Spec(), env.NewStates(1)
	see := func(action int32) step {
		f, b := make([]bool, spec.Actions), make([]bool, spec.BackwardActions)
		s.ForwardMask(0, f)
		s.BackwardMask(0, b)
		return step{fmt.Sprint(s.AppendFeatures(nil, 0)), fmt.Sprint(f), fmt.Sprint(b), action}
	}
	for _, a := range actions {
		forward = append(forward, see(a))
		undo := []int32{0}
		s.BackwardOf([]int32{0}, []int32{a}, undo)
		if err := s.Forward([]int32{0}, []int32{a}); err != nil {
			t.Fatal(err)
		}
		if undo[0] != envs.Only {
			backward = append(backward, see(undo[0]))
		}
	}
	return forward, backward
}

func environments(t testing.TB) []envs.Env {
	return []envs.Env{grid(t, 1, 2), grid(t, 2, 8), grid(t, 4, 3), slots(3)}
}

func TestAssembleIsReplay(t *testing.T) {
	for _, env := range environments(t) {
		asm := policy.NewAssembler(env) // reused: batches of any size follow each other
		var b policy.Batch
		rapid.Check(t, func(rt *rapid.T) {
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
			asm.KeepDuplicates(rapid.Bool().Draw(rt, "keep"))
			actions := walk(t, r, env, rapid.IntRange(0, 12).Draw(rt, "n"))
			if err := asm.Assemble(actions, &b); err != nil {
				rt.Fatal(err)
			}
			if len(b.FOffset) != len(actions)+1 || len(b.BOffset) != len(actions)+1 {
				rt.Fatalf("%d and %d offsets for %d trajectories", len(b.FOffset), len(b.BOffset), len(actions))
			}
			for i := range actions {
				forward, backward := replay(t, env, actions[i])
				gotF, gotB := stepsOf(&b, env.Spec(), i)
				if !slices.Equal(gotF, forward) || !slices.Equal(gotB, backward) {
					rt.Fatalf("trajectory %v: %v and %v, want %v and %v", actions[i], gotF, gotB, forward, backward)
				}
				if !asm.States().Terminal(i) {
					rt.Fatalf("row %d is not its object", i)
				}
			}
		})
	}
}

func TestStatesAreStoredOnce(t *testing.T) {
	env := grid(t, 2, 4)
	// (0,0) → (1,0) → (1,1) → stop and (0,0) → (0,1) → (1,1) → stop.
	actions := [][]int32{{0, 1, 2}, {1, 0, 2}}
	asm := policy.NewAssembler(env)
	var b policy.Batch
	if err := asm.Assemble(actions, &b); err != nil {
		t.Fatal(err)
	}
	if b.States.N != 4 || b.FState[0] != b.FState[3] || b.FState[2] != b.FState[5] {
		t.Errorf("%d states, transitions from %v; want 4 with both ends shared", b.States.N, b.FState)
	}
	if text := asm.States().Text(1); text != "(1,1)" {
		t.Errorf("object %s", text)
	}
	asm.KeepDuplicates(true)
	if err := asm.Assemble(actions, &b); err != nil {
		t.Fatal(err)
	}
	if b.States.N != 6 {
		t.Errorf("%d states without deduplication, want 6", b.States.N)
	}
}

// TestDeduplicationKeepsTheGradient compares gradients with and without.
func TestDeduplicationKeepsTheGradient(t *testing.T) {
	for _, env := range environments(t)[1:] {
		spec := env.Spec()
		v := variant{policy.MLPConfig{Hidden: []int{32, 32}, Activation: "relu"},
			policytest.Shape{Features: spec.Features, Actions: spec.Actions, BackwardActions: spec.BackwardActions}}
		m := v.model(t)
		params := make([]float32, m.Layout().Size())
		m.Init(params, 1)
		r := rand.New(rand.NewPCG(8, 8))
		actions := walk(t, r, env, 64)
		var grads [2][]float32
		var weights *policy.Weights
		for i, keep := range []bool{false, true} {
			asm, tape := policy.NewAssembler(env), m.NewTape()
			asm.KeepDuplicates(keep)
			var b policy.Batch
			if err := asm.Assemble(actions, &b); err != nil {
				t.Fatal(err)
			}
			if weights == nil {
				weights = policytest.RandomWeights(r, &b)
			}
			grads[i] = make([]float32, len(params))
			if err := tape.Score(params, &b, &policy.Scores{}); err != nil {
				t.Fatal(err)
			}
			if err := tape.Backprop(weights, grads[i]); err != nil {
				t.Fatal(err)
			}
		}
		policytest.WantNear(t, spec.Name, m.Layout(), grads[0], grads[1], 1e-5)
	}
}

func TestBadTrajectoriesAreNamed(t *testing.T) {
	good := []int32{0, 2}
	for name, c := range map[string]struct {
		bad  []int32
		step int
		text string
	}{
		"unfinished":     {[]int32{0, 1}, 2, "ends after 2 actions in the unfinished (1,1)"},
		"empty":          {nil, 0, "ends after 0 actions in the unfinished (0,0)"},
		"after the end":  {[]int32{2, 0}, 1, "action 0 after the end in (0,0)"},
		"illegal":        {[]int32{1, 1, 1, 2}, 2, "action 1 is illegal in (0,2)"},
		"negative":       {[]int32{0, -1}, 1, "action -1 is illegal in (1,0)"},
		"no such action": {[]int32{3}, 0, "action 3 is illegal in (0,0)"},
		"too long":       {make([]int32, 1000), 5, "has 1000 actions; hypergrid takes at most 5"},
	} {
		asm := policy.NewAssembler(grid(t, 2, 3))
		var b policy.Batch
		err := asm.Assemble([][]int32{good, c.bad, good}, &b)
		var te *policy.TrajectoryError
		if !errors.As(err, &te) || te.Trajectory != 1 || te.Step != c.step || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
		if err := asm.Assemble([][]int32{good}, &b); err != nil {
			t.Errorf("%s: the assembler does not recover: %v", name, err)
		}
	}
}

// FuzzAssemble: no actions whatever make the assembler panic, and what it
// accepts can be scored.
func FuzzAssemble(f *testing.F) {
	f.Add([]byte{0, 1, 2, 255, 1, 0, 2})
	f.Add([]byte{})
	env := grid(f, 2, 3)
	spec := env.Spec()
	m := variant{policy.MLPConfig{Hidden: []int{4}, Activation: "tanh"},
		policytest.Shape{Features: spec.Features, Actions: spec.Actions, BackwardActions: spec.BackwardActions}}.model(f)
	params := make([]float32, m.Layout().Size())
	f.Fuzz(func(t *testing.T, data []byte) {
		actions := [][]int32{nil}
		for _, c := range data {
			if c == 255 {
				actions = append(actions, nil)
				continue
			}
			last := &actions[len(actions)-1]
			*last = append(*last, int32(int8(c)))
		}
		var b policy.Batch
		err := policy.NewAssembler(env).Assemble(actions, &b)
		var te *policy.TrajectoryError
		if err != nil && !errors.As(err, &te) {
			t.Fatalf("an error that names no trajectory: %v", err)
		}
		if err == nil {
			if err := m.NewTape().Score(params, &b, &policy.Scores{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestDeduperNumbersDistinctStates(t *testing.T) {
	env := grid(t, 3, 6)
	r := rand.New(rand.NewPCG(4, 4))
	const n = 500
	states := env.NewStates(n)
	for i, actions := range walk(t, r, env, n) {
		for _, a := range actions[:r.IntN(len(actions))] {
			if err := states.Forward([]int32{int32(i)}, []int32{a}); err != nil {
				t.Fatal(err)
			}
		}
	}
	d := policy.NewDeduper(env)
	var distinct policy.States
	for range 2 { // the second round starts anew
		d.Start(&distinct)
		number := map[string]int32{}
		for row := range n {
			key := string(states.AppendKey(nil, row))
			want, known := number[key]
			if !known {
				want = int32(len(number))
				number[key] = want
			}
			if got := d.Add(states, row); got != want {
				t.Fatalf("row %d is state %d, want %d", row, got, want)
			}
		}
		if distinct.N != len(number) || len(distinct.ForwardMask) != distinct.N*env.Spec().Actions {
			t.Fatalf("%d states, want %d", distinct.N, len(number))
		}
	}
}

func TestAssembleAllocatesNothing(t *testing.T) {
	env := grid(t, 4, 8)
	actions := walk(t, rand.New(rand.NewPCG(1, 1)), env, 64)
	asm := policy.NewAssembler(env)
	var b policy.Batch
	n := testing.AllocsPerRun(5, func() {
		if err := asm.Assemble(actions, &b); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations in the steady state", n)
	}
}

// BenchmarkScoreBackprop is one update's work on the model: batch 16 on the
// 4-dimensional grid of height 8, hidden layers 2×256.
func BenchmarkScoreBackprop(b *testing.B) {
	env := grid(b, 4, 8)
	spec := env.Spec()
	m := variant{policy.MLPConfig{Hidden: []int{256, 256}, Activation: "relu"},
		policytest.Shape{Features: spec.Features, Actions: spec.Actions, BackwardActions: spec.BackwardActions}}.model(b)
	params := make([]float32, m.Layout().Size())
	m.Init(params, 1)
	grad := make([]float32, len(params))
	r := rand.New(rand.NewPCG(1, 1))
	actions := walk(b, r, env, 16)
	asm, tape := policy.NewAssembler(env), m.NewTape()
	var batch policy.Batch
	var scores policy.Scores
	var w *policy.Weights
	b.ReportAllocs()
	for b.Loop() {
		if err := asm.Assemble(actions, &batch); err != nil {
			b.Fatal(err)
		}
		if err := tape.Score(params, &batch, &scores); err != nil {
			b.Fatal(err)
		}
		if w == nil {
			w = policytest.RandomWeights(r, &batch)
		}
		if err := tape.Backprop(w, grad); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(batch.States.N), "states")
}
