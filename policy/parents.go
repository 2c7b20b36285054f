package policy

import (
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
)

// Potentials makes a Trace fill Batch.Potential: the environment's States must be
// an envs.Potential.
func (t *Trace) Potentials(on bool) { t.potential = on }

// Parents makes a Trace list, for every state that a trajectory comes to, all
// transitions that lead there (Batch.Into), and put the states where they begin
// into the batch: what flow matching needs.
func (t *Trace) Parents(on bool) {
	t.parents = nil
	if on {
		n := t.env.Spec().BackwardActions
		t.parents = &parents{states: t.env.NewStates(n), legal: make([]bool, n)}
	}
}

// parents collects the transitions into states, once for each state.
type parents struct {
	states              envs.States // a copy for each step back: all are taken at once
	legal               []bool
	rows, back, forward []int32 // by copy

	list   []int32 // by state of the batch: its list, −1 unless it has one
	offset []int32 // list l has edges offset[l]:offset[l+1]
	edges  []edge  // forward transitions
	into   []int32 // by transition, in the order of the steps: the list of its target
}

func (p *parents) start(b *Batch) {
	b.Into, b.EdgeOffset = b.Into[:0], b.EdgeOffset[:0]
	if p != nil {
		p.list, p.offset, p.edges, p.into = p.list[:0], append(p.offset[:0], 0), p.edges[:0], p.into[:0]
	}
}

// arrive notes the transitions into a row's state, which is number id of the
// batch; id is −1 where the step back is forced, and so the only one.
func (p *parents) arrive(t *Trace, states envs.States, row int, id int32) {
	if id < 0 {
		p.into = append(p.into, -1)
		return
	}
	for int(id) >= len(p.list) {
		p.list = append(p.list, -1)
	}
	if p.list[id] < 0 {
		t.fault(p.collect(t, states, row))
		p.list[id] = int32(len(p.offset) - 1)
		p.offset = append(p.offset, int32(len(p.edges)))
	}
	p.into = append(p.into, p.list[id])
}

// collect takes every step back from a row.
func (p *parents) collect(t *Trace, states envs.States, row int) error {
	states.BackwardMask(row, p.legal)
	p.rows, p.back = p.rows[:0], p.back[:0]
	for b, ok := range p.legal {
		if ok {
			p.states.CopyRow(len(p.rows), states, row)
			p.rows, p.back = append(p.rows, int32(len(p.rows))), append(p.back, int32(b))
		}
	}
	p.states.ForwardOf(p.rows, p.back, resize(&p.forward, len(p.rows)))
	if err := p.states.Backward(p.rows, p.back); err != nil {
		return fmt.Errorf("%s refuses what its own masks allow: %w", t.env.Spec().Name, err)
	}
	for k, forward := range p.forward {
		p.edges = append(p.edges, edge{state: t.add(p.states, k), action: forward})
	}
	return nil
}

// finish puts the lists behind the transitions of the trajectories.
func (p *parents) finish(t *Trace) {
	if p == nil {
		return
	}
	b, total := t.batch, len(t.row)
	copy(t.place, b.FOffset)
	resize(&b.Into, total)
	for k, row := range t.row {
		b.Into[t.place[row]] = p.into[k]
		t.place[row]++
	}
	for _, at := range p.offset {
		b.EdgeOffset = append(b.EdgeOffset, int32(total)+at)
	}
	for _, e := range p.edges {
		b.FState, b.FAction = append(b.FState, e.state), append(b.FAction, e.action)
	}
}
