package envtest

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/driftmesh/driftmesh/envs"
)

// eachObject puts the walker on the object behind every finishing step of
// every state, and calls visit with the number that Child gives the object.
func eachObject(e envs.Enumerable, w *walker, visit func(object int) error) error {
	for state := range e.NumStates() {
		e.Load(w.s, 0, state)
		for _, a := range w.legal() {
			to, terminal := e.Child(state, int(a))
			if !terminal {
				continue
			}
			e.Load(w.s, 0, state)
			if err := w.forward(a); err != nil {
				return err
			}
			if err := visit(to); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkNumbering: state 0 is s0, numbers are keys, and steps lead upwards.
func checkNumbering(env envs.Env) error {
	e, err := envs.Enumerate(env)
	if err != nil {
		return err
	}
	w := newWalker(env, 10)
	start := w.key()
	numberOf := map[string]int{}
	for state := range e.NumStates() {
		e.Load(w.s, 0, state)
		if w.s.Terminal(0) {
			return fmt.Errorf("state %d is the object %s", state, w.s.Text(0))
		}
		if other, twice := numberOf[w.key()]; twice {
			return fmt.Errorf("states %d and %d are both %s", other, state, w.s.Text(0))
		}
		numberOf[w.key()] = state
		for _, a := range w.legal() {
			if to, terminal := e.Child(state, int(a)); !terminal && (to <= state || to >= e.NumStates()) {
				return fmt.Errorf("state %d, action %d leads to state %d of %d, not to a higher one", state, a, to, e.NumStates())
			} else if terminal && (to < 0 || to >= e.NumObjects()) {
				return fmt.Errorf("state %d, action %d makes object %d of %d", state, a, to, e.NumObjects())
			}
		}
	}
	if n, ok := numberOf[start]; !ok || n != 0 {
		return fmt.Errorf("s0 is not state 0")
	}
	return nil
}

// checkReachable: every state and every object can be reached from s0.
func checkReachable(env envs.Env) error {
	e, err := envs.Enumerate(env)
	if err != nil {
		return err
	}
	w := newWalker(env, 11)
	states, objects := make([]bool, e.NumStates()), make([]bool, e.NumObjects())
	states[0] = true
	for state := range states { // in topological order, so parents come first
		if !states[state] {
			return fmt.Errorf("state %d cannot be reached", state)
		}
		e.Load(w.s, 0, state)
		for _, a := range w.legal() {
			if to, terminal := e.Child(state, int(a)); terminal {
				objects[to] = true
			} else {
				states[to] = true
			}
		}
	}
	for object, ok := range objects {
		if !ok {
			return fmt.Errorf("object %d cannot be reached", object)
		}
	}
	return nil
}

// checkListing: Child and Forward lead to the same node, and LogRewards and
// LogReward give it the same reward.
func checkListing(env envs.Env) error {
	e, err := envs.Enumerate(env)
	if err != nil {
		return err
	}
	logR, got := make([]float64, e.NumObjects()), make([]float64, 1)
	e.LogRewards(logR)
	w, child := newWalker(env, 12), newWalker(env, 12)
	textOf := make([]string, e.NumObjects())
	for state := range e.NumStates() {
		e.Load(w.s, 0, state)
		for _, a := range w.legal() {
			e.Load(w.s, 0, state)
			if err := w.forward(a); err != nil {
				return err
			}
			to, terminal := e.Child(state, int(a))
			if terminal != w.s.Terminal(0) {
				return fmt.Errorf("state %d, action %d: Child and Forward differ about the end", state, a)
			}
			if !terminal {
				if e.Load(child.s, 0, to); child.key() != w.key() {
					return fmt.Errorf("state %d, action %d: Child leads to %s, Forward to %s", state, a, child.s.Text(0), w.s.Text(0))
				}
				continue
			}
			if o := e.Object(w.s, 0); o != to {
				return fmt.Errorf("state %d, action %d: Child makes object %d, Forward object %d", state, a, to, o)
			}
			if err := w.s.LogReward([]int32{0}, got); err != nil {
				return err
			}
			if !(math.Abs(got[0]-logR[to]) <= 1e-12*max(1, math.Abs(got[0]))) {
				return fmt.Errorf("object %s: log-reward %v alone, %v in the list", w.s.Text(0), got[0], logR[to])
			}
			if text := w.s.Text(0); textOf[to] != "" && textOf[to] != text {
				return fmt.Errorf("object %d is %s and %s", to, textOf[to], text)
			} else {
				textOf[to] = text
			}
		}
	}
	return nil
}

// checkSampling: the exact terminating distribution of the uniform policy is
// the one that uniform steps sample from (χ² test with a fixed stream, refused
// at one in a million).
func checkSampling(env envs.Env) error {
	e, err := envs.Enumerate(env)
	if err != nil {
		return err
	}
	exact, err := envs.Terminating(e, envs.Uniform(e))
	if err != nil {
		return err
	}
	const samples = 20_000
	w, counts := newWalker(env, 13), make([]float64, e.NumObjects())
	for range samples {
		w.reset()
		for !w.s.Terminal(0) {
			if err := w.forward(w.pick(w.legal())); err != nil {
				return err
			}
		}
		counts[e.Object(w.s, 0)]++
	}
	// Objects that expect fewer than five samples share one class, if that
	// class expects enough itself.
	chi2, classes, rareWant, rareGot := 0.0, 0, 0.0, 0.0
	add := func(got, want float64) {
		chi2 += (got - want) * (got - want) / want
		classes++
	}
	for object, lp := range exact {
		if want := samples * math.Exp(lp); want >= 5 {
			add(counts[object], want)
		} else {
			rareWant += want
			rareGot += counts[object]
		}
	}
	if rareWant >= 5 || rareGot >= 20 {
		add(rareGot, max(rareWant, 1e-9))
	}
	if classes < 2 {
		return nil
	}
	if p := (distuv.ChiSquared{K: float64(classes - 1)}).Survival(chi2); p < 1e-6 {
		return fmt.Errorf("uniform samples do not follow the exact distribution: χ² = %.1f in %d classes", chi2, classes)
	}
	return nil
}
