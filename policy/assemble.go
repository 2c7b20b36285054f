package policy

import (
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
	states envs.States
	dedupe *Deduper

	rows   []int32 // trajectories that have a next step
	action []int32 // their forward actions
	undo   []int32 // the backward actions that undo them
	at     []int32 // by trajectory: index of the present state in the batch
	back   []edge  // by forward transition; state −1 where the step is forced
}

// edge is a backward transition.
type edge struct{ state, action int32 }

// NewAssembler returns an Assembler for trajectories of env.
func NewAssembler(env envs.Env) *Assembler {
	return &Assembler{env: env, spec: env.Spec(), dedupe: NewDeduper(env)}
}

// KeepDuplicates is that of Deduper.
func (a *Assembler) KeepDuplicates(keep bool) { a.dedupe.KeepDuplicates(keep) }

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
	total, longest, err := a.measure(actions)
	if err != nil {
		return err
	}
	n := len(actions)
	a.start(n)
	a.dedupe.Start(&b.States)
	resize(&b.FState, total)
	resize(&b.FAction, total)
	resize(&b.FOffset, n+1)
	resize(&a.back, total)
	b.FOffset[0] = 0
	for i, taken := range actions {
		b.FOffset[i+1] = b.FOffset[i] + int32(len(taken))
		a.at[i] = a.dedupe.Add(a.states, i)
	}
	for step := range longest {
		if err := a.advance(actions, step, b); err != nil {
			return err
		}
	}
	for i, taken := range actions {
		if !a.states.Terminal(i) {
			return &TrajectoryError{Trajectory: i, Step: len(taken),
				Reason: fmt.Sprintf("ends after %d actions in the unfinished %s", len(taken), a.states.Text(i))}
		}
	}
	a.collectBackward(b)
	return nil
}

// measure refuses what cannot be a trajectory before anything is allocated.
func (a *Assembler) measure(actions [][]int32) (total, longest int, err error) {
	for i, taken := range actions {
		if len(taken) > a.spec.MaxSteps {
			return 0, 0, &TrajectoryError{Trajectory: i, Step: a.spec.MaxSteps,
				Reason: fmt.Sprintf("has %d actions; %s takes at most %d", len(taken), a.spec.Name, a.spec.MaxSteps)}
		}
		total += len(taken)
		longest = max(longest, len(taken))
	}
	if total > math.MaxInt32 || len(actions) >= math.MaxInt32 {
		return 0, 0, fmt.Errorf("%w: %d actions in %d trajectories", ErrTooLarge, total, len(actions))
	}
	return total, longest, nil
}

// start puts rows 0..n-1 at s0.
func (a *Assembler) start(n int) {
	resize(&a.rows, n)
	resize(&a.action, n)
	resize(&a.undo, n)
	resize(&a.at, n)
	for i := range a.rows {
		a.rows[i] = int32(i)
	}
	if a.states == nil || a.states.Len() < n {
		a.states = a.env.NewStates(n)
		return
	}
	a.states.Reset(a.rows)
}

// advance takes one step of every trajectory that has it.
func (a *Assembler) advance(actions [][]int32, step int, b *Batch) error {
	a.rows, a.action = a.rows[:0], a.action[:0]
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
		at := a.at[i]
		if uint(act) >= uint(width) || !b.States.ForwardMask[int(at)*width+int(act)] {
			return &TrajectoryError{Trajectory: i, Step: step,
				Reason: fmt.Sprintf("action %d is illegal in %s", act, a.states.Text(i))}
		}
		t := int(b.FOffset[i]) + step
		b.FState[t], b.FAction[t] = at, act
		a.rows, a.action = append(a.rows, int32(i)), append(a.action, act)
	}
	a.undo = a.undo[:len(a.rows)]
	a.states.BackwardOf(a.rows, a.action, a.undo)
	if err := a.states.Forward(a.rows, a.action); err != nil {
		return fmt.Errorf("step %d: %s refuses what its own masks allow: %w", step, a.spec.Name, err)
	}
	for k, i := range a.rows {
		t := int(b.FOffset[i]) + step
		a.back[t] = edge{state: -1}
		// Objects are scored only where there is a choice of the way back.
		if forced := a.undo[k] == envs.Only; !forced || !a.states.Terminal(int(i)) {
			a.at[i] = a.dedupe.Add(a.states, int(i))
			if !forced {
				a.back[t] = edge{state: a.at[i], action: a.undo[k]}
			}
		}
	}
	return nil
}

// collectBackward copies the backward transitions that are a choice.
func (a *Assembler) collectBackward(b *Batch) {
	n := len(b.FOffset) - 1
	b.BState, b.BAction = b.BState[:0], b.BAction[:0]
	resize(&b.BOffset, n+1)
	b.BOffset[0] = 0
	for i := range n {
		for _, e := range a.back[b.FOffset[i]:b.FOffset[i+1]] {
			if e.state >= 0 {
				b.BState, b.BAction = append(b.BState, e.state), append(b.BAction, e.action)
			}
		}
		b.BOffset[i+1] = int32(len(b.BState))
	}
}
