package envtest

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
)

// checkFeatures: ascending, in range, few enough, and appended to what is there.
func checkFeatures(env envs.Env) error {
	w := newWalker(env, 5)
	return w.each(func() error {
		f := w.s.AppendFeatures(nil, 0)
		if len(f) > w.spec.MaxActive {
			return fmt.Errorf("%d active features; MaxActive is %d", len(f), w.spec.MaxActive)
		}
		for i, v := range f {
			if v < 0 || int(v) >= w.spec.Features || i > 0 && v <= f[i-1] {
				return fmt.Errorf("features %v are not ascending in [0, %d)", f, w.spec.Features)
			}
		}
		if two := w.s.AppendFeatures([]int32{-7}, 0); !slices.Equal(two, append([]int32{-7}, f...)) {
			return fmt.Errorf("AppendFeatures does not append: %v after -7", two)
		}
		return nil
	})
}

// checkMarks of objects: as features, and where an environment has marks of its own,
// equal only for equal objects.
func checkMarks(env envs.Env) error {
	w, marks := newWalker(env, 9), envs.MarksOf(env)
	_, own := env.(envs.Marked)
	textOf := map[string]string{}
	return w.each(func() error {
		if !w.s.Terminal(0) {
			return nil
		}
		m, text := marks.Append(nil, w.s, 0), w.s.Text(0)
		for i, v := range m {
			if v < 0 || int(v) >= marks.Features || i > 0 && v <= m[i-1] {
				return fmt.Errorf("marks %v of %s are not ascending in [0, %d)", m, text, marks.Features)
			}
		}
		if two := marks.Append([]int32{-7}, w.s, 0); !slices.Equal(two, append([]int32{-7}, m...)) {
			return fmt.Errorf("Append does not append: %v after -7", two)
		}
		if old, seen := textOf[fmt.Sprint(m)]; own && seen && old != text {
			return fmt.Errorf("%s and %s have the same marks, %v", old, text, m)
		}
		textOf[fmt.Sprint(m)] = text
		return nil
	})
}

// checkKeys: equal exactly where text, terminality and legal actions are, which
// is all that can be seen of a node; and every step leads to another node.
func checkKeys(env envs.Env) error {
	w := newWalker(env, 6)
	nodeOf, keyOf := map[string]string{}, map[string]string{}
	previous := ""
	return w.each(func() error {
		key := w.key()
		node := fmt.Sprint(w.s.Text(0), w.s.Terminal(0), w.legal(), w.legalBack())
		if old, seen := nodeOf[key]; seen && old != node {
			return fmt.Errorf("one key for two nodes: %s and %s", old, node)
		}
		if old, seen := keyOf[node]; seen && old != key {
			return fmt.Errorf("two keys, %x and %x, for node %s", old, key, node)
		}
		nodeOf[key], keyOf[node] = node, key
		if key == previous {
			return errors.New("a step kept the key")
		}
		previous = key
		if two := w.s.AppendKey([]byte("x"), 0); string(two) != "x"+key {
			return errors.New("AppendKey does not append")
		}
		return nil
	})
}

// checkRewards: finite for objects, an error for everything else.
func checkRewards(env envs.Env) error {
	w := newWalker(env, 7)
	return w.each(func() error {
		out := []float64{math.NaN()}
		err := w.s.LogReward([]int32{0}, out)
		if !w.s.Terminal(0) {
			if err == nil {
				return errors.New("a reward without an object")
			}
			return nil
		}
		if err != nil {
			return err
		}
		if math.IsNaN(out[0]) || math.IsInf(out[0], 0) {
			return fmt.Errorf("log-reward %v", out[0])
		}
		return nil
	})
}

// checkText: objects are read back from their text, and nonsense is refused.
func checkText(env envs.Env) error {
	w, s := newWalker(env, 8), env.NewStates(2)
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
		for _, wrong := range []string{"\x00", text + "\x00", "\xff" + text} { // control bytes, broken UTF-8
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

// checkFacts: what the environment says of itself is what listing it shows.
func checkFacts(env envs.Env) error {
	f := envs.FactsOf(env)
	if f.MaxSteps != env.Spec().MaxSteps {
		return fmt.Errorf("facts have %d steps, the spec %d", f.MaxSteps, env.Spec().MaxSteps)
	}
	e, err := envs.Enumerate(env)
	if err != nil {
		return err
	}
	logP, logZ := envs.Target(e)
	best := logZ + slices.Max(logP)
	switch {
	case f.Cells != nil && *f.Cells != float64(e.NumObjects()):
		return fmt.Errorf("facts have %v objects; %d are listed", *f.Cells, e.NumObjects())
	case f.LogZ != nil && !(math.Abs(*f.LogZ-logZ) <= 1e-9*max(1, math.Abs(logZ))):
		return fmt.Errorf("facts have log Z = %v; the list gives %v", *f.LogZ, logZ)
	case f.MaxReward != nil && !(math.Abs(math.Log(*f.MaxReward)-best) <= 1e-9*max(1, math.Abs(best))):
		return fmt.Errorf("facts have the largest reward %v; the list %v", *f.MaxReward, math.Exp(best))
	}
	return nil
}

// checkModes: numbers in range, none where there are none, and each mode has
// an object (where they are listed).
func checkModes(env envs.Env) error {
	m, ok := env.(envs.Moded)
	if !ok {
		return nil
	}
	n := m.NumModes()
	if f := envs.FactsOf(env); n > 0 && (f.Modes == nil || *f.Modes != float64(n)) {
		return fmt.Errorf("%d modes are numbered; the facts have another number", n)
	}
	w, found := newWalker(env, 9), map[int]bool{}
	visit := func() error {
		mode := m.Mode(w.s, 0)
		if mode < -1 || mode >= n {
			return fmt.Errorf("mode %d of %s; there are %d", mode, w.s.Text(0), n)
		}
		found[mode] = true
		return checkOverlap(m, w, mode, found)
	}
	err := w.each(func() error {
		if !w.s.Terminal(0) {
			return nil
		}
		return visit()
	})
	if err != nil {
		return err
	}
	e, err := envs.Enumerate(env)
	if err != nil {
		return err
	}
	if err := eachObject(e, w, func(int) error { return visit() }); err != nil {
		return err
	}
	delete(found, -1)
	if len(found) != n {
		return fmt.Errorf("%d of %d modes have an object", len(found), n)
	}
	return nil
}

// checkOverlap: the modes of an object are in order, in range, and Mode's is one of
// them. It notes them in found.
func checkOverlap(m envs.Moded, w *walker, mode int, found map[int]bool) error {
	all := envs.AppendModes([]int{-7}, m, w.s, 0)
	if len(all) == 0 || all[0] != -7 {
		return errors.New("AppendModes does not append")
	}
	all = all[1:]
	if mode == -1 && len(all) > 0 || mode != -1 && !slices.Contains(all, mode) {
		return fmt.Errorf("%s is of mode %d, and of the modes %v", w.s.Text(0), mode, all)
	}
	for i, v := range all {
		if v < 0 || v >= m.NumModes() || i > 0 && v <= all[i-1] {
			return fmt.Errorf("modes %v of %s are not ascending in [0, %d)", all, w.s.Text(0), m.NumModes())
		}
		found[v] = true
	}
	return nil
}
