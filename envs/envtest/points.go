package envtest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/rng"
)

// PointChecks returns the clauses of the contract for an environment whose actions
// are points. They are deterministic.
func PointChecks() []Check {
	return []Check{
		{"spec", checkPointSpec},
		{"walks", checkPointWalks},
		{"illegal actions", checkPointIllegal},
		{"batches are atomic", checkPointAtomic},
		{"copy and reset", checkPointCopy},
		{"features", checkDense},
		{"keys", checkPointKeys},
		{"rewards", checkPointRewards},
		{"text", checkPointText},
		{"modes", checkPointModes},
		{"draws", checkDraws},
	}
}

// pointWalker takes random steps with one state.
type pointWalker struct {
	spec envs.Spec
	s    envs.States
	rnd  *rand.Rand
}

func newPointWalker(env envs.Env, stream uint64) *pointWalker {
	return &pointWalker{spec: env.Spec(), s: env.NewStates(1), rnd: rng.New(1, rng.Rollout, stream)}
}

func (w *pointWalker) reset()      { w.s.Reset([]int32{0}) }
func (w *pointWalker) key() string { return string(w.s.AppendKey(nil, 0)) }

func (w *pointWalker) forward(a []int32) error  { return w.s.Forward([]int32{0}, a) }
func (w *pointWalker) backward(b []int32) error { return w.s.Backward([]int32{0}, b) }

// point is somewhere in the space.
func (w *pointWalker) point() []int32 {
	out := make([]int32, w.spec.ActionDim)
	for j := range out {
		out[j] = envs.Word(float32(4 * w.rnd.NormFloat64()))
	}
	return out
}

func (w *pointWalker) undo(a []int32) []int32 {
	out := make([]int32, len(a))
	w.s.BackwardOf([]int32{0}, a, out)
	return out
}

func (w *pointWalker) redo(b []int32) []int32 {
	out := make([]int32, len(b))
	w.s.ForwardOf([]int32{0}, b, out)
	return out
}

// each calls visit in every state of random trajectories, s0 and objects included,
// until it returns an error.
func (w *pointWalker) each(visit func() error) error {
	for range walks {
		w.reset()
		for step := 0; ; step++ {
			if err := visit(); err != nil {
				return fmt.Errorf("after %d steps, at %s: %w", step, w.s.Text(0), err)
			}
			if w.s.Terminal(0) {
				break
			}
			if step >= w.spec.MaxSteps {
				return fmt.Errorf("%s is no object after %d steps", w.s.Text(0), step)
			}
			if err := w.forward(w.point()); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkPointSpec(env envs.Env) error {
	s := env.Spec()
	if s.Name == "" || s.ActionDim < 1 || s.Dense < 1 || s.MaxSteps < 1 ||
		s.Actions != 0 || s.BackwardActions != 0 || s.Features != 0 || s.MaxActive != 0 {
		return fmt.Errorf("impossible spec %+v", s)
	}
	st := env.NewStates(3)
	if _, ok := st.(envs.Points); !ok {
		return fmt.Errorf("%T is no envs.Points", st)
	}
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

// checkPointWalks goes forward, then back the same way: actions and their inverses
// agree to the last bit, and trajectories end within MaxSteps.
func checkPointWalks(env envs.Env) error {
	w := newPointWalker(env, 1)
	for range walks {
		w.reset()
		var keys []string
		var taken, undone [][]int32
		for !w.s.Terminal(0) {
			if len(taken) >= w.spec.MaxSteps {
				return fmt.Errorf("%s is no object after %d steps", w.s.Text(0), len(taken))
			}
			a := w.point()
			b := w.undo(a)
			keys, taken, undone = append(keys, w.key()), append(taken, a), append(undone, b)
			if err := w.forward(a); err != nil {
				return err
			}
			if redo := w.redo(b); !slices.Equal(redo, a) {
				return fmt.Errorf("%s: backward action %v is redone by %v, not %v", w.s.Text(0), b, redo, a)
			}
		}
		for i := len(taken) - 1; i >= 0; i-- {
			if err := w.backward(undone[i]); err != nil {
				return fmt.Errorf("undoing action %v: %w", taken[i], err)
			}
			if w.key() != keys[i] || w.s.Terminal(0) {
				return fmt.Errorf("undoing action %v leads to %s, not back", taken[i], w.s.Text(0))
			}
		}
	}
	return nil
}

// broken are actions with a coordinate that is not finite.
func (w *pointWalker) broken() [][]int32 {
	var out [][]int32
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		a := w.point()
		a[w.rnd.IntN(len(a))] = envs.Word(float32(v))
		out = append(out, a)
	}
	return out
}

// checkPointIllegal tries what no state allows, and steps that are not there.
func checkPointIllegal(env envs.Env) error {
	w := newPointWalker(env, 2)
	return w.each(func() error {
		before, end := w.key(), w.s.Terminal(0)
		start := string(env.NewStates(1).AppendKey(nil, 0)) == before
		for _, a := range w.broken() {
			if w.forward(a) == nil {
				return errors.New("a forward action that is not finite is taken")
			}
		}
		if end && w.forward(w.point()) == nil {
			return errors.New("an object is stepped on from")
		}
		back := w.undoes(env)
		if start && (w.backward(w.point()) == nil || w.backward(only(w.spec.ActionDim)) == nil) {
			return errors.New("s0 can be stepped back from")
		}
		if !start {
			if forced := back[0] == envs.Only; forced && w.backward(w.point()) == nil {
				return errors.New("a forced step goes back to any point")
			} else if !forced && w.backward(only(w.spec.ActionDim)) == nil {
				return errors.New("Only is taken where there are backward actions")
			}
			for _, b := range w.broken() {
				if b[0] != envs.Only && w.backward(b) == nil {
					return errors.New("a backward action that is not finite is taken")
				}
			}
		}
		if w.key() != before || w.s.Terminal(0) != end {
			return fmt.Errorf("an illegal action moved the row to %s", w.s.Text(0))
		}
		return nil
	})
}

func only(dim int) []int32 { return slices.Repeat([]int32{envs.Only}, dim) }

// undoes says whether the step that led here is forced backward: it repeats the
// walk's last step on a copy of the states before, which after one step is s0.
func (w *pointWalker) undoes(env envs.Env) []int32 {
	s, here := env.NewStates(1), w.s
	s.CopyRow(0, here, 0)
	if s.Backward([]int32{0}, only(w.spec.ActionDim)) == nil {
		return only(w.spec.ActionDim)
	}
	return make([]int32, w.spec.ActionDim)
}

// checkPointAtomic steps two rows, the second one illegally: neither may move.
func checkPointAtomic(env envs.Env) error {
	s, w, rows := env.NewStates(2), newPointWalker(env, 3), []int32{0, 1}
	return w.each(func() error {
		s.CopyRow(0, w.s, 0)
		s.CopyRow(1, w.s, 0)
		bad := w.broken()[0]
		if s.Forward(rows, append(w.point(), bad...)) == nil {
			return errors.New("a batch with an illegal forward action is taken")
		}
		if bad[0] = envs.Word(float32(math.Inf(1))); s.Backward(rows, append(w.undoes(env), bad...)) == nil {
			return errors.New("a batch with an illegal backward action is taken")
		}
		for row := range 2 {
			if string(s.AppendKey(nil, row)) != w.key() {
				return fmt.Errorf("a batch that failed moved row %d to %s", row, s.Text(row))
			}
		}
		return nil
	})
}

// checkPointCopy copies rows between vectors and resets them.
func checkPointCopy(env envs.Env) error {
	w, s := newPointWalker(env, 4), env.NewStates(3)
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
		if !w.s.Terminal(0) {
			before := w.key()
			s.CopyRow(2, w.s, 0)
			if err := s.Forward([]int32{2}, w.point()); err != nil {
				return fmt.Errorf("the copy cannot step like its original: %w", err)
			}
			if w.key() != before {
				return errors.New("the original moves with its copy")
			}
			s.Reset([]int32{2})
		}
		return nil
	})
}

// checkDense: as many as the spec says, finite, and appended to what is there.
func checkDense(env envs.Env) error {
	w := newPointWalker(env, 5)
	return w.each(func() error {
		f := w.s.(envs.Points).AppendDense(nil, 0)
		if len(f) != w.spec.Dense || len(w.s.AppendFeatures(nil, 0)) != 0 {
			return fmt.Errorf("%d dense features; the spec has %d, and no others", len(f), w.spec.Dense)
		}
		for _, v := range f {
			if v-v != 0 {
				return fmt.Errorf("features %v", f)
			}
		}
		if two := w.s.(envs.Points).AppendDense([]float32{-7}, 0); !slices.Equal(two, append([]float32{-7}, f...)) {
			return fmt.Errorf("AppendDense does not append: %v after -7", two)
		}
		return nil
	})
}

// checkPointKeys: equal exactly where text is.
func checkPointKeys(env envs.Env) error {
	w := newPointWalker(env, 6)
	nodeOf, previous := map[string]string{}, ""
	return w.each(func() error {
		key, text := w.key(), w.s.Text(0)
		if old, seen := nodeOf[key]; seen && old != text {
			return fmt.Errorf("one key for two nodes: %s and %s", old, text)
		}
		if nodeOf[key] = text; key == previous {
			return errors.New("a step kept the key")
		}
		previous = key
		if two := w.s.AppendKey([]byte("x"), 0); string(two) != "x"+key {
			return errors.New("AppendKey does not append")
		}
		return nil
	})
}

// checkPointRewards: finite for objects, an error for everything else, also where
// float32 ends.
func checkPointRewards(env envs.Env) error {
	w := newPointWalker(env, 7)
	finite := func() error {
		out := []float64{math.NaN()}
		err := w.s.LogReward([]int32{0}, out)
		switch {
		case !w.s.Terminal(0) && err == nil:
			return errors.New("a reward without an object")
		case w.s.Terminal(0) && err != nil:
			return err
		case w.s.Terminal(0) && out[0]-out[0] != 0:
			return fmt.Errorf("log-reward %v", out[0])
		}
		return nil
	}
	if err := w.each(finite); err != nil {
		return err
	}
	for _, far := range []float32{math.MaxFloat32, -math.MaxFloat32, 0} {
		w.reset()
		for !w.s.Terminal(0) {
			if err := w.forward(slices.Repeat([]int32{envs.Word(far)}, w.spec.ActionDim)); err != nil {
				return err
			}
		}
		if err := finite(); err != nil {
			return fmt.Errorf("at %v: %w", far, err)
		}
	}
	return nil
}

// checkPointText: objects are read back from their text, bit by bit, and nonsense is
// refused.
func checkPointText(env envs.Env) error {
	w, s := newPointWalker(env, 8), env.NewStates(2)
	err := w.each(func() error {
		if !w.s.Terminal(0) {
			return nil
		}
		text := w.s.Text(0)
		if err := s.Parse(1, text); err != nil {
			return err
		}
		if !s.Terminal(1) || s.Text(1) != text || string(s.AppendKey(nil, 1)) != w.key() {
			return fmt.Errorf("parsed, it becomes %s", s.Text(1))
		}
		for _, wrong := range []string{"", ")", "\x00", text + "\x00", "\xff" + text, text[:len(text)-1]} {
			if s.Parse(0, wrong) == nil {
				return fmt.Errorf("%q is accepted as an object", wrong)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.Terminal(0) || s.Text(0) != env.NewStates(1).Text(0) {
		return fmt.Errorf("refused texts changed the row to %s", s.Text(0))
	}
	return nil
}

func checkPointModes(env envs.Env) error {
	f := envs.FactsOf(env)
	if f.MaxSteps != env.Spec().MaxSteps {
		return fmt.Errorf("facts have %d steps, the spec %d", f.MaxSteps, env.Spec().MaxSteps)
	}
	m, ok := env.(envs.Moded)
	if !ok {
		return nil
	}
	n := m.NumModes()
	if n > 0 && (f.Modes == nil || *f.Modes != float64(n)) {
		return fmt.Errorf("%d modes are numbered; the facts have another number", n)
	}
	w := newPointWalker(env, 9)
	return w.each(func() error {
		mode := m.Mode(w.s, 0)
		if mode < -1 || mode >= n || !w.s.Terminal(0) && mode != -1 {
			return fmt.Errorf("mode %d of %s; there are %d", mode, w.s.Text(0), n)
		}
		return nil
	})
}

// checkDraws: objects of the target are objects, differ, and follow from the source.
func checkDraws(env envs.Env) error {
	d, ok := env.(envs.Drawn)
	if !ok {
		return nil
	}
	s, again := env.NewStates(walks), env.NewStates(walks)
	rows := make([]int32, walks)
	for i := range rows {
		rows[i] = int32(i)
	}
	d.Draw(rng.New(1, rng.Evaluate), s, rows)
	d.Draw(rng.New(1, rng.Evaluate), again, rows)
	seen := map[string]bool{}
	for row := range walks {
		key := string(s.AppendKey(nil, row))
		if !s.Terminal(row) || seen[key] || string(again.AppendKey(nil, row)) != key {
			return fmt.Errorf("row %d, %s, is no object, or not a draw of its own", row, s.Text(row))
		}
		seen[key] = true
	}
	return s.LogReward(rows, make([]float64, walks))
}
