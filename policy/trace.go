package policy

import "github.com/driftmesh/driftmesh/envs"

// Trace collects trajectories that advance together, one step of all of them
// after the other, into a Batch that holds every distinct state once. It is for
// one goroutine, and in the steady state allocates nothing.
//
//	Start → (Leave → the environment's Forward → Arrive)… → Finish
type Trace struct {
	env    envs.Env
	dedupe *Deduper
	words  int // of an action
	batch  *Batch
	at     []int32 // by trajectory: index of its present state in the batch

	// By transition, in the order of the steps.
	row, state, action []int32
	back               []edge // state −1 where the step is forced
	undo               []int32
	undone             []int32 // backward actions that are points, of all transitions
	place              []int32 // by trajectory: where its next transition goes
	sorted             []edge

	potential bool
	parents   *parents // nil: not wanted
	one       [1]int32
	err       error
}

// Pass is a rollout whose forward pass is on a tape: Finish takes it from there.
type Pass struct {
	Batch  *Batch
	States envs.States // row i is the object of trajectory i
}

// edge is a backward transition; of one that goes to a point, action says which of
// all transitions it is.
type edge struct{ state, action int32 }

// NewTrace returns a Trace for trajectories of env.
func NewTrace(env envs.Env) *Trace {
	spec := env.Spec()
	return &Trace{env: env, dedupe: NewDeduper(env), words: spec.Words()}
}

// KeepDuplicates is that of Deduper.
func (t *Trace) KeepDuplicates(keep bool) { t.dedupe.KeepDuplicates(keep) }

// Start empties b and collects into it from now on: rows 0..n-1 of states, all at
// s0, are the beginnings of trajectories 0..n-1.
func (t *Trace) Start(states envs.States, n int, b *Batch) {
	t.batch, t.err = b, nil
	t.dedupe.Start(&b.States)
	b.Potential = b.Potential[:0]
	t.parents.start(b)
	t.row, t.state, t.action, t.back = t.row[:0], t.state[:0], t.action[:0], t.back[:0]
	t.undone = t.undone[:0]
	resize(&t.at, n)
	for i := range t.at {
		t.at[i] = t.add(states, i)
	}
}

// add returns the index in the batch of a row's state.
func (t *Trace) add(states envs.States, row int) int32 {
	id := t.dedupe.Add(states, row)
	if b := t.batch; t.potential && int(id) == len(b.Potential) {
		b.Potential = append(b.Potential, 0)
		if !states.Terminal(row) {
			t.one[0] = int32(row)
			t.fault(states.(envs.Potential).LogPotential(t.one[:], b.Potential[id:]))
		}
	}
	return id
}

// fault keeps the first fault.
func (t *Trace) fault(err error) {
	if t.err == nil {
		t.err = err
	}
}

// Err is the first fault of the environment since Start.
func (t *Trace) Err() error { return t.err }

// At is the index in the batch of the state where trajectory i is. It has no
// meaning once the trajectory is complete.
func (t *Trace) At(i int32) int32 { return t.at[i] }

// Leave notes that the trajectories in rows take an action each, before they do.
func (t *Trace) Leave(states envs.States, rows, actions []int32) {
	states.BackwardOf(rows, actions, resize(&t.undo, len(rows)*t.words))
	t.row = append(t.row, rows...)
	t.action = append(t.action, actions...)
	for _, row := range rows {
		t.state = append(t.state, t.at[row])
	}
}

// Arrive notes where the same trajectories are now.
func (t *Trace) Arrive(states envs.States, rows []int32) {
	for k, row := range rows {
		e := edge{state: -1}
		// Objects are scored only where there is a choice of the way back.
		if forced := t.undo[k*t.words] == envs.Only; !forced || !states.Terminal(int(row)) {
			t.at[row] = t.add(states, int(row))
			if !forced {
				e = edge{state: t.at[row], action: t.undo[k*t.words]}
				if t.words > 1 {
					e.action = int32(len(t.back))
				}
			}
		}
		if t.parents != nil {
			t.parents.arrive(t, states, int(row), e.state)
		}
		t.back = append(t.back, e)
	}
	if t.words > 1 {
		t.undone = append(t.undone, t.undo...)
	}
}

// Finish puts the transitions into the batch, trajectory by trajectory.
func (t *Trace) Finish() {
	b, n, total := t.batch, len(t.at), len(t.row)
	clear(resize(&b.FOffset, n+1))
	for _, row := range t.row {
		b.FOffset[row+1]++
	}
	for i := range n {
		b.FOffset[i+1] += b.FOffset[i]
	}
	copy(resize(&t.place, n), b.FOffset)
	resize(&b.FState, total)
	resize(&b.FAction, total*t.words)
	resize(&t.sorted, total)
	for k, row := range t.row {
		to := t.place[row]
		t.place[row]++
		b.FState[to], t.sorted[to] = t.state[k], t.back[k]
		if t.words > 1 {
			copy(t.point(b.FAction, to), t.point(t.action, int32(k)))
		} else {
			b.FAction[to] = t.action[k]
		}
	}
	b.BState, b.BAction = b.BState[:0], b.BAction[:0]
	resize(&b.Undo, total)
	resize(&b.BOffset, n+1)
	b.BOffset[0] = 0
	for i := range n {
		lo, hi := b.FOffset[i], b.FOffset[i+1]
		for k, e := range t.sorted[lo:hi] {
			b.Undo[int(lo)+k] = -1
			if e.state >= 0 {
				b.Undo[int(lo)+k] = int32(len(b.BState))
				b.BState = append(b.BState, e.state)
				if t.words > 1 {
					b.BAction = append(b.BAction, t.point(t.undone, e.action)...)
				} else {
					b.BAction = append(b.BAction, e.action)
				}
			}
		}
		b.BOffset[i+1] = int32(len(b.BState))
	}
	t.parents.finish(t)
}

// point is action i of those that take several words each.
func (t *Trace) point(actions []int32, i int32) []int32 {
	return actions[int(i)*t.words : (int(i)+1)*t.words]
}
