package plugin

import (
	"bytes"
	"fmt"

	"github.com/driftmesh/driftmesh/internal/plugin"
)

// maxTrials is how many new states of a graph that is not walked as a whole are asked
// for one of their parents, in each process.
const maxTrials = 1 << 10

// broken is the error of a program that says what cannot be.
func (e *Env) broken(err error) error {
	return fmt.Errorf("plugin %s: %w", e.pool, fmt.Errorf("%w: %w", plugin.ErrProtocol, err))
}

// same says whether two nodes are one; after States have forgotten, one may be there twice.
func same(x, y *node) bool { return x == y || bytes.Equal(x.state, y.state) }

// stepped checks a step that was told of, and remembers the way back.
func (s *states) stepped(e edge, to *node) error {
	way := int(e.action) // of the same number
	if s.env.stop && way == s.env.spec.Actions-1 {
		if !to.terminal {
			return fmt.Errorf("the stop action leads from %s to the unfinished %s", e.from.name(), to.name())
		}
	} else if !to.backward[way] {
		return fmt.Errorf("action %d leads from %s to %s, and cannot be taken back there", e.action, e.from.name(), to.name())
	}
	parent := &s.ways(to)[way]
	if *parent != nil && !same(*parent, e.from) {
		return fmt.Errorf("action %d leads to %s from %s and from %s: two ways need two numbers", e.action, to.name(), (*parent).name(), e.from.name())
	}
	*parent = e.from
	return nil
}

// undone checks a parent that was told of.
func undone(e edge, to *node) error {
	if to.terminal || !to.forward[e.action] {
		return fmt.Errorf("action %d in %s gives %s, from which it is not legal", e.action, e.from.name(), to.name())
	}
	return nil
}

// undo asks for parents, and whether they lead back to where they were found: with
// others the backward policy is wrong, and so is what is learned. The steps are
// remembered like all others, so each is asked for once.
func (s *states) undo(ask []edge) error {
	err := s.request(plugin.OpUndo, ask, prev, undone)
	if err == nil {
		err = s.prove(ask)
	}
	if err != nil {
		for _, e := range ask { // or the next one to come would believe them
			*prev(e) = nil
		}
	}
	return err
}

func (s *states) prove(ask []edge) error {
	var steps []edge
	for _, e := range ask {
		parent := *prev(e)
		if parent.next == nil {
			parent.next = make([]*node, s.env.spec.Actions)
		}
		if parent.next[e.action] == nil {
			steps = append(steps, edge{parent, e.action})
		}
	}
	if len(steps) > 0 {
		// Where a step leads is compared below; its way back is no news.
		if err := s.request(plugin.OpStep, steps, next, func(edge, *node) error { return nil }); err != nil {
			return err
		}
	}
	for _, e := range ask {
		parent := *prev(e)
		if to := parent.next[e.action]; !same(to, e.from) {
			return s.env.broken(fmt.Errorf("undo: action %d in %s gives %s, from which it leads not to %s but to %s", e.action, e.from.name(), parent.name(), e.from.name(), to.name()))
		}
	}
	return nil
}

// try looks at where steps have led: no object may be further away than max_steps, and
// the first new states must have a parent by some action that they say can be taken
// back. Nobody asks for parents where trajectories are sampled forward, while their
// number is the backward policy.
func (s *states) try(steps []edge) error {
	var ask []edge
	for _, e := range steps {
		x := *next(e)
		if x.depth = max(x.depth, e.from.depth+1); x.depth > s.env.spec.MaxSteps {
			return s.env.broken(s.env.far(x))
		}
		if x.tried || s.env.trials.Load() <= 0 {
			continue
		}
		x.tried = true
		first := max(0, s.env.trials.Add(-1)) // another action for each
		for i := range x.backward {
			b := (int(first) + i) % len(x.backward)
			if x.backward[b] && s.ways(x)[b] == nil {
				ask = append(ask, edge{x, int32(b)})
				break
			}
		}
	}
	if len(ask) == 0 {
		return nil
	}
	err := s.undo(ask)
	if err != nil {
		for _, e := range ask { // the next one to come is told again
			e.from.tried = false
			s.env.trials.Add(1)
		}
	}
	return err
}

func (e *Env) far(x *node) error {
	return fmt.Errorf("max_steps is %d, and %s is %d steps from the start", e.spec.MaxSteps, x.name(), x.depth)
}

// whole checks a graph all of whose steps are known, states in topological order.
func (e *Env) whole(order, ended []*node) error {
	for _, x := range order {
		for _, to := range x.next {
			if to == nil {
				continue
			}
			if to.depth = max(to.depth, x.depth+1); to.depth > e.spec.MaxSteps {
				return e.far(to)
			}
		}
	}
	for _, nodes := range [][]*node{order, ended} {
		for _, x := range nodes {
			for b, claimed := range x.backward {
				if claimed && (x.prev == nil || x.prev[b] == nil) {
					return fmt.Errorf("action %d can be taken back in %s, and no state leads there by it", b, x.name())
				}
			}
		}
	}
	texts := make(map[string]bool, len(ended))
	for _, x := range ended {
		if texts[x.text] {
			return fmt.Errorf("two objects have the text %s: each needs its own", x.name())
		}
		texts[x.text] = true
	}
	return nil
}
