package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/policy"
)

// TestParentsAreAllParents: for every step of random trajectories the list of
// transitions is every way into the state, found by taking every step back; and
// the transitions of the trajectories are those without lists.
func TestParentsAreAllParents(t *testing.T) {
	for _, env := range environments(t) {
		spec := env.Spec()
		actions := walk(t, rand.New(rand.NewPCG(4, 4)), env, 40)
		asm := policy.NewAssembler(env)
		var plain policy.Batch
		if err := asm.Assemble(actions, &plain); err != nil {
			t.Fatal(err)
		}
		asm.Parents(true)
		var b policy.Batch
		for range 2 { // the second time with used buffers
			if err := asm.Assemble(actions, &b); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(b.FOffset, plain.FOffset) || !slices.Equal(b.FAction[:len(plain.FAction)], plain.FAction) || !slices.Equal(b.Undo, plain.Undo) {
			t.Errorf("%s: other trajectories with parents than without", spec.Name)
		}
		one, back, legal := env.NewStates(1), env.NewStates(1), make([]bool, spec.BackwardActions)
		for i, taken := range actions {
			one.Reset([]int32{0})
			for k, a := range taken {
				step := int(b.FOffset[i]) + k
				if u := b.Undo[step]; u >= 0 {
					out := []int32{0}
					if one.BackwardOf([]int32{0}, []int32{a}, out); out[0] != b.BAction[u] {
						t.Fatalf("%s: step %d is undone by %d, want %d", spec.Name, step, b.BAction[u], out[0])
					}
				}
				if err := one.Forward([]int32{0}, []int32{a}); err != nil {
					t.Fatal(err)
				}
				want := map[string]bool{}
				one.BackwardMask(0, legal)
				for j, ok := range legal {
					if !ok {
						continue
					}
					back.CopyRow(0, one, 0)
					forward := []int32{0}
					back.ForwardOf([]int32{0}, []int32{int32(j)}, forward)
					if err := back.Backward([]int32{0}, []int32{int32(j)}); err != nil {
						t.Fatal(err)
					}
					want[fmt.Sprint(features(back), forward[0])] = true
				}
				got := map[string]bool{}
				if l := b.Into[step]; l >= 0 {
					for e := b.EdgeOffset[l]; e < b.EdgeOffset[l+1]; e++ {
						s := &b.States
						at := b.FState[e]
						got[fmt.Sprint(s.FeatIndex[s.FeatOffset[at]:s.FeatOffset[at+1]], b.FAction[e])] = true
						if !s.ForwardMask[int(at)*spec.Actions+int(b.FAction[e])] {
							t.Fatalf("%s: edge %d takes a forbidden action", spec.Name, e)
						}
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("%s: into %s lead %v, want %v", spec.Name, one.Text(0), got, want)
				}
			}
		}
	}
}

func features(s envs.States) []int32 { return s.AppendFeatures([]int32{}, 0) }

// TestPotentialsAreOfTheStates of the batch; objects have none.
func TestPotentialsAreOfTheStates(t *testing.T) {
	env := grid(t, 2, 5)
	asm := policy.NewAssembler(env)
	asm.Potentials(true)
	var b policy.Batch
	actions := walk(t, rand.New(rand.NewPCG(5, 5)), env, 30)
	if err := asm.Assemble(actions, &b); err != nil {
		t.Fatal(err)
	}
	if len(b.Potential) != b.States.N || b.Potential[0] != 0 {
		t.Fatalf("%d potentials of %d states, that of s0 is %v", len(b.Potential), b.States.N, b.Potential[0])
	}
	one := env.NewStates(1).(envs.Potential)
	for i, taken := range actions {
		one.Reset([]int32{0})
		for k, a := range taken {
			want := []float64{0}
			if err := one.LogPotential([]int32{0}, want); err != nil {
				t.Fatal(err)
			}
			if got := b.Potential[b.FState[int(b.FOffset[i])+k]]; got != want[0] {
				t.Errorf("potential of %s is %v, want %v", one.Text(0), got, want[0])
			}
			if err := one.Forward([]int32{0}, []int32{a}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// counting is an environment that counts how often steps back are asked for.
type counting struct {
	envs.Env
	calls, steps *int
}

type countingStates struct {
	envs.States
	of counting
}

func (c counting) NewStates(n int) envs.States { return countingStates{c.Env.NewStates(n), c} }

func (s countingStates) CopyRow(dst int, from envs.States, src int) {
	s.States.CopyRow(dst, from.(countingStates).States, src)
}

func (s countingStates) Backward(rows, actions []int32) error {
	*s.of.calls, *s.of.steps = *s.of.calls+1, *s.of.steps+len(rows)
	return s.States.Backward(rows, actions)
}

// TestParentsOfAStateAreAskedForAtOnce: an environment in another program has one
// request for them.
func TestParentsOfAStateAreAskedForAtOnce(t *testing.T) {
	more := false
	for _, env := range environments(t) {
		actions := walk(t, rand.New(rand.NewPCG(4, 4)), env, 40)
		c := counting{env, new(int), new(int)}
		asm := policy.NewAssembler(c)
		asm.Parents(true)
		var b policy.Batch
		if err := asm.Assemble(actions, &b); err != nil {
			t.Fatal(err)
		}
		lists := len(b.EdgeOffset) - 1
		if *c.calls != lists {
			t.Errorf("%s: %d requests for %d parents of %d states", env.Spec().Name, *c.calls, *c.steps, lists)
		}
		more = more || *c.steps > lists
	}
	if !more {
		t.Error("no state has several parents")
	}
}
