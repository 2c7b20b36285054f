package policy

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs"
)

// ErrTooLarge: trajectories with more actions in total than indices can count.
var ErrTooLarge = errors.New("policy: batch too large")

// Assembler turns trajectories, which travel as actions only, into a Batch: it
// replays them from s0, all of them one step at a time, and collects each
// distinct state once. Trajectories come from the network and nothing about
// them is believed. An Assembler is for one goroutine, and in the steady state
// allocates nothing.
type Assembler struct {
	env    envs.Env
	spec   envs.Spec
	words  int // of an action
	states envs.States
	trace  *Trace
	ctx    context.Context // of what the environment asks; nil: none

	rows   []int32 // trajectories that have a next step
	action []int32 // their forward actions
}

// NewAssembler returns an Assembler for trajectories of env.
func NewAssembler(env envs.Env) *Assembler {
	spec := env.Spec()
	return &Assembler{env: env, spec: spec, words: spec.Words(), trace: NewTrace(env)}
}

// KeepDuplicates is that of Deduper.
func (a *Assembler) KeepDuplicates(keep bool) { a.trace.KeepDuplicates(keep) }

// Potentials and Parents are those of Trace.
func (a *Assembler) Potentials(on bool) { a.trace.Potentials(on) }

// Parents is that of Trace.
func (a *Assembler) Parents(on bool) { a.trace.Parents(on) }

// States holds the terminal state of trajectory i of the last Assemble that
// succeeded in row i, until the next Assemble: for checking log-rewards, texts
// and modes. There may be more rows than trajectories.
func (a *Assembler) States() envs.States { return a.states }

// Assemble fills b with complete trajectories: actions[i] leads from s0 to an
// object. Forward transitions keep the order of the actions; forced backward
// steps (envs.Only) are left out. A trajectory that the environment does not
// allow is a *TrajectoryError that names it; b is not to be used then.
// The actions are not kept.
func (a *Assembler) Assemble(actions [][]int32, b *Batch) error {
	longest, err := a.measure(actions)
	if err != nil {
		return err
	}
	a.start(len(actions))
	a.trace.Start(a.states, len(actions), b)
	for step := range longest {
		if err := a.advance(actions, step, b); err != nil {
			return err
		}
	}
	for i, taken := range actions {
		if !a.states.Terminal(i) {
			steps := len(taken) / a.words
			return &TrajectoryError{Trajectory: i, Step: steps,
				Reason: fmt.Sprintf("ends after %d actions in the unfinished %s", steps, a.states.Text(i))}
		}
	}
	a.trace.Finish()
	return a.trace.Err()
}

// measure refuses what cannot be a trajectory before anything is allocated.
func (a *Assembler) measure(actions [][]int32) (longest int, err error) {
	total := 0
	for i, taken := range actions {
		if len(taken) > a.spec.MaxSteps*a.words {
			return 0, &TrajectoryError{Trajectory: i, Step: a.spec.MaxSteps,
				Reason: fmt.Sprintf("has %d actions; %s takes at most %d", len(taken)/a.words, a.spec.Name, a.spec.MaxSteps)}
		}
		if a.words > 1 && len(taken)%a.words != 0 {
			return 0, &TrajectoryError{Trajectory: i, Step: len(taken) / a.words,
				Reason: fmt.Sprintf("has %d words; an action of %s takes %d", len(taken), a.spec.Name, a.words)}
		}
		total += len(taken)
		longest = max(longest, len(taken)/a.words)
	}
	if total > math.MaxInt32 || len(actions) >= math.MaxInt32 {
		return 0, fmt.Errorf("%w: %d actions in %d trajectories", ErrTooLarge, total, len(actions))
	}
	return longest, nil
}

// start puts rows 0..n-1 at s0.
func (a *Assembler) start(n int) {
	resize(&a.rows, n)
	resize(&a.action, n*a.words)
	for i := range a.rows {
		a.rows[i] = int32(i)
	}
	if a.states == nil || a.states.Len() < n {
		if a.states = a.env.NewStates(n); a.ctx != nil {
			envs.Within(a.ctx, a.states)
		}
		return
	}
	a.states.Reset(a.rows)
}

// advance takes one step of every trajectory that has it.
func (a *Assembler) advance(actions [][]int32, step int, b *Batch) error {
	a.rows, a.action = a.rows[:0], a.action[:0]
	if a.spec.Continuous() {
		if err := a.points(actions, step); err != nil {
			return err
		}
		return a.move(step)
	}
	width := a.spec.Actions
	for i, taken := range actions {
		if step >= len(taken) {
			continue
		}
		act := taken[step]
		if a.states.Terminal(i) {
			return &TrajectoryError{Trajectory: i, Step: step,
				Reason: fmt.Sprintf("action %d after the end in %s", act, a.states.Text(i))}
		}
		at := a.trace.At(int32(i))
		if uint(act) >= uint(width) || !b.States.ForwardMask[int(at)*width+int(act)] {
			return &TrajectoryError{Trajectory: i, Step: step,
				Reason: fmt.Sprintf("action %d is illegal in %s", act, a.states.Text(i))}
		}
		a.rows, a.action = append(a.rows, int32(i)), append(a.action, act)
	}
	return a.move(step)
}

// points collects the actions of a step that are points.
func (a *Assembler) points(actions [][]int32, step int) error {
	lo, hi := step*a.words, (step+1)*a.words
	for i, taken := range actions {
		if hi > len(taken) {
			continue
		}
		if a.states.Terminal(i) {
			return &TrajectoryError{Trajectory: i, Step: step, Reason: "an action after the end in " + a.states.Text(i)}
		}
		for j, word := range taken[lo:hi] {
			if v := envs.Coordinate(word); v-v != 0 {
				return &TrajectoryError{Trajectory: i, Step: step, Reason: fmt.Sprintf("coordinate %d of the action is %v; want a finite number", j, v)}
			}
		}
		a.rows, a.action = append(a.rows, int32(i)), append(a.action, taken[lo:hi]...)
	}
	return nil
}

// move takes the actions that were collected.
func (a *Assembler) move(step int) error {
	a.trace.Leave(a.states, a.rows, a.action)
	if err := a.states.Forward(a.rows, a.action); err != nil {
		return fmt.Errorf("step %d: %s refuses what its own masks allow: %w", step, a.spec.Name, err)
	}
	a.trace.Arrive(a.states, a.rows)
	return nil
}
