package metrics

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
)

// ExactDraws draws objects from the exact target of an environment that was
// enumerated, in 24 bytes an object. It is not safe for concurrent use.
type ExactDraws struct {
	env     envs.Enumerable
	cum     []float64 // of the target's probabilities
	parent  []int32   // a state from which one action makes the object,
	action  []int32   // and that action
	mask    []bool
	row, by [1]int32
}

// Draws prepares to draw from the evaluator's target.
func (v *Evaluator) Draws() *ExactDraws {
	e := v.env
	d := &ExactDraws{
		env: e, cum: make([]float64, len(v.logTarget)), mask: make([]bool, e.Spec().Actions),
		parent: make([]int32, len(v.logTarget)), action: make([]int32, len(v.logTarget)),
	}
	total := 0.0
	for i, lp := range v.logTarget {
		total += math.Exp(lp)
		d.cum[i] = total
	}
	for state := range e.NumStates() {
		e.Load(v.row, 0, state)
		v.row.ForwardMask(0, d.mask)
		for a, legal := range d.mask {
			if !legal {
				continue
			}
			if object, terminal := e.Child(state, a); terminal {
				d.parent[object], d.action[object] = int32(state), int32(a)
			}
		}
	}
	return d
}

// Draw makes the row the terminal state of an object of the target, and returns
// the object's number.
func (d *ExactDraws) Draw(rnd *rand.Rand, s envs.States, row int) (int, error) {
	u := rnd.Float64() * d.cum[len(d.cum)-1]
	object, _ := slices.BinarySearchFunc(d.cum, u, func(c, u float64) int {
		if c <= u {
			return -1
		}
		return 1
	})
	object = min(object, len(d.cum)-1)
	d.env.Load(s, row, int(d.parent[object]))
	d.row[0], d.by[0] = int32(row), d.action[object]
	if err := s.Forward(d.row[:], d.by[:]); err != nil {
		return 0, fmt.Errorf("metrics: object %d: %w", object, err)
	}
	return object, nil
}

// Object returns the number of the object of a terminal row.
func (v *Evaluator) Object(s envs.States, row int) int { return v.env.Object(s, row) }
