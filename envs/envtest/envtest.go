// Package envtest is the contract of package envs as tests: every environment
// passes Run, and may add tests of its own rewards beside it.
package envtest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/rng"
)

// Run runs every check of the contract as a subtest. The checks that list
// states run only on an envs.Enumerable; small parameters keep them quick.
func Run(t *testing.T, env envs.Env) {
	t.Helper()
	checks := Checks()
	if spec := env.Spec(); spec.Continuous() {
		checks = PointChecks()
	}
	for _, c := range checks {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Run(env); errors.Is(err, envs.ErrNotEnumerable) {
				t.Skip(err)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// Check is one clause of the contract. Run returns nil when env keeps it, and
// an error that wraps envs.ErrNotEnumerable when it cannot be checked.
type Check struct {
	Name string
	Run  func(env envs.Env) error
}

// Checks returns all clauses. They are deterministic.
func Checks() []Check {
	return []Check{
		{"spec", checkSpec},
		{"walks", checkWalks},
		{"illegal actions", checkIllegal},
		{"batches are atomic", checkAtomic},
		{"copy and reset", checkCopy},
		{"features", checkFeatures},
		{"marks", checkMarks},
		{"keys", checkKeys},
		{"rewards", checkRewards},
		{"text", checkText},
		{"numbering", checkNumbering},
		{"reachable", checkReachable},
		{"listing equals stepping", checkListing},
		{"listing equals sampling", checkSampling},
		{"facts", checkFacts},
		{"modes", checkModes},
	}
}

// walks is how many random trajectories a check looks at.
const walks = 64

// walker takes random legal steps with one state.
type walker struct {
	spec      envs.Spec
	s         envs.States
	rnd       *rand.Rand
	fwd, back []bool
}

func newWalker(env envs.Env, stream uint64) *walker {
	spec := env.Spec()
	return &walker{
		spec: spec, s: env.NewStates(1), rnd: rng.New(1, rng.Rollout, stream),
		fwd: make([]bool, spec.Actions), back: make([]bool, spec.BackwardActions),
	}
}

func (w *walker) reset() { w.s.Reset([]int32{0}) }

// forward and backward take one step, and undo and redo translate one action.
func (w *walker) forward(a int32) error  { return w.s.Forward([]int32{0}, []int32{a}) }
func (w *walker) backward(b int32) error { return w.s.Backward([]int32{0}, []int32{b}) }

func (w *walker) undo(a int32) int32 {
	out := []int32{math.MinInt32}
	w.s.BackwardOf([]int32{0}, []int32{a}, out)
	return out[0]
}

func (w *walker) redo(b int32) int32 {
	out := []int32{math.MinInt32}
	w.s.ForwardOf([]int32{0}, []int32{b}, out)
	return out[0]
}

func (w *walker) key() string { return string(w.s.AppendKey(nil, 0)) }

// legal returns the legal forward actions. The mask is dirtied first: an
// environment has to write every element.
func (w *walker) legal() []int32 {
	for i := range w.fwd {
		w.fwd[i] = true
	}
	w.s.ForwardMask(0, w.fwd)
	return indices(w.fwd)
}

// legalBack returns the legal backward actions, Only not counted.
func (w *walker) legalBack() []int32 {
	for i := range w.back {
		w.back[i] = true
	}
	w.s.BackwardMask(0, w.back)
	return indices(w.back)
}

func (w *walker) pick(actions []int32) int32 { return actions[w.rnd.IntN(len(actions))] }

// each calls visit in every state of random trajectories, s0 and objects
// included, until it returns an error.
func (w *walker) each(visit func() error) error {
	for range walks {
		w.reset()
		for step := 0; ; step++ {
			if err := visit(); err != nil {
				return fmt.Errorf("after %d steps, at %s: %w", step, w.s.Text(0), err)
			}
			actions := w.legal()
			if w.s.Terminal(0) {
				break
			}
			if len(actions) == 0 || step > w.spec.MaxSteps {
				return fmt.Errorf("%s after %d steps: not an object, and no way on", w.s.Text(0), step)
			}
			if err := w.forward(w.pick(actions)); err != nil {
				return err
			}
		}
	}
	return nil
}

func indices(mask []bool) []int32 {
	var out []int32
	for i, ok := range mask {
		if ok {
			out = append(out, int32(i))
		}
	}
	return out
}

func checkSpec(env envs.Env) error {
	s := env.Spec()
	if s.Name == "" || s.Actions < 1 || s.BackwardActions < 0 || s.Features < 1 || s.MaxActive < 1 || s.MaxActive > s.Features || s.MaxSteps < 1 {
		return fmt.Errorf("impossible spec %+v", s)
	}
	st := env.NewStates(3)
	if st.Len() != 3 {
		return fmt.Errorf("NewStates(3) has length %d", st.Len())
	}
	for row := range 3 {
		if st.Terminal(row) || !bytes.Equal(st.AppendKey(nil, row), st.AppendKey(nil, 0)) {
			return fmt.Errorf("new row %d is not at s0", row)
		}
	}
	return nil
}

// checkWalks goes forward, then back the same way: actions and their inverses
// agree, the masks allow both, and trajectories end within MaxSteps.
func checkWalks(env envs.Env) error {
	w := newWalker(env, 1)
	w.reset()
	if len(w.legalBack()) > 0 || w.backward(envs.Only) == nil {
		return errors.New("s0 can be stepped back from")
	}
	for range walks {
		w.reset()
		var keys []string
		var taken, undone []int32
		for !w.s.Terminal(0) {
			actions := w.legal()
			if len(actions) == 0 || len(taken) >= w.spec.MaxSteps {
				return fmt.Errorf("%s is no object after %d of at most %d steps (%d legal actions)", w.s.Text(0), len(taken), w.spec.MaxSteps, len(actions))
			}
			a := w.pick(actions)
			b := w.undo(a)
			keys, taken, undone = append(keys, w.key()), append(taken, a), append(undone, b)
			if err := w.forward(a); err != nil {
				return fmt.Errorf("the mask allows action %d: %w", a, err)
			}
			back := w.legalBack()
			if b == envs.Only && len(back) > 0 || b != envs.Only && !slices.Contains(back, b) {
				return fmt.Errorf("action %d is undone by %d; the backward mask of %s allows %v", a, b, w.s.Text(0), back)
			}
			if redo := w.redo(b); redo != a {
				return fmt.Errorf("%s: backward action %d is redone by %d, not %d", w.s.Text(0), b, redo, a)
			}
		}
		if left := w.legal(); len(left) > 0 {
			return fmt.Errorf("object %s has legal actions %v", w.s.Text(0), left)
		}
		for i := len(taken) - 1; i >= 0; i-- {
			if err := w.backward(undone[i]); err != nil {
				return fmt.Errorf("undoing action %d: %w", taken[i], err)
			}
			if w.key() != keys[i] || w.s.Terminal(0) {
				return fmt.Errorf("undoing action %d leads to %s, not back", taken[i], w.s.Text(0))
			}
		}
	}
	return nil
}

// checkIllegal tries every action that the masks forbid.
func checkIllegal(env envs.Env) error {
	w := newWalker(env, 2)
	return w.each(func() error {
		before, terminal := w.key(), w.s.Terminal(0)
		fwd, back := w.legal(), w.legalBack()
		for a := int32(-2); a <= int32(w.spec.Actions); a++ {
			if !slices.Contains(fwd, a) && w.forward(a) == nil {
				return fmt.Errorf("forward action %d is taken, though not legal", a)
			}
		}
		for b := int32(-2); b <= int32(w.spec.BackwardActions); b++ {
			if b != envs.Only && !slices.Contains(back, b) && w.backward(b) == nil {
				return fmt.Errorf("backward action %d is taken, though not legal", b)
			}
		}
		if len(back) > 0 && w.backward(envs.Only) == nil {
			return errors.New("Only is taken where there are backward actions")
		}
		if w.key() != before || w.s.Terminal(0) != terminal {
			return fmt.Errorf("an illegal action moved the row to %s", w.s.Text(0))
		}
		// Every backward step that the mask allows is a way forward in reverse.
		for _, b := range back {
			a := w.redo(b)
			if err := w.backward(b); err != nil {
				return err
			}
			if !slices.Contains(w.legal(), a) || w.undo(a) != b {
				return fmt.Errorf("backward action %d leads to %s, where %d does not lead back", b, w.s.Text(0), a)
			}
			if err := w.forward(a); err != nil {
				return err
			}
			if w.key() != before {
				return fmt.Errorf("backward action %d, then forward action %d, lead to %s", b, a, w.s.Text(0))
			}
		}
		return nil
	})
}

// checkAtomic steps two rows, the second one illegally: neither may move.
func checkAtomic(env envs.Env) error {
	spec := env.Spec()
	s, w, rows := env.NewStates(2), newWalker(env, 3), []int32{0, 1}
	return w.each(func() error {
		s.CopyRow(0, w.s, 0)
		s.CopyRow(1, w.s, 0)
		if actions := w.legal(); len(actions) > 0 {
			if s.Forward(rows, []int32{w.pick(actions), int32(spec.Actions)}) == nil {
				return errors.New("a batch with an illegal forward action is taken")
			}
		}
		back := w.legalBack()
		if w.s.Terminal(0) && len(back) == 0 {
			back = []int32{envs.Only}
		}
		if len(back) > 0 {
			if s.Backward(rows, []int32{w.pick(back), int32(spec.BackwardActions)}) == nil {
				return errors.New("a batch with an illegal backward action is taken")
			}
		}
		for row := range 2 {
			if string(s.AppendKey(nil, row)) != w.key() {
				return fmt.Errorf("a batch that failed moved row %d to %s", row, s.Text(row))
			}
		}
		return nil
	})
}

// checkCopy copies rows between vectors and resets them.
func checkCopy(env envs.Env) error {
	w, s := newWalker(env, 4), env.NewStates(3)
	start := string(s.AppendKey(nil, 0))
	return w.each(func() error {
		s.CopyRow(1, w.s, 0)
		if string(s.AppendKey(nil, 1)) != w.key() || s.Terminal(1) != w.s.Terminal(0) || s.Text(1) != w.s.Text(0) {
			return fmt.Errorf("the copy is %s", s.Text(1))
		}
		if string(s.AppendKey(nil, 0)) != start || string(s.AppendKey(nil, 2)) != start {
			return errors.New("copying a row changed its neighbours")
		}
		s.Reset([]int32{1})
		if string(s.AppendKey(nil, 1)) != start || s.Terminal(1) {
			return errors.New("Reset does not lead to s0")
		}
		if actions := w.legal(); len(actions) > 0 {
			s.CopyRow(2, w.s, 0)
			if err := s.Forward([]int32{2}, actions[:1]); err != nil {
				return fmt.Errorf("the copy cannot step like its original: %w", err)
			}
			if string(s.AppendKey(nil, 2)) == w.key() {
				return errors.New("the original moves with its copy")
			}
			s.Reset([]int32{2})
		}
		return nil
	})
}
