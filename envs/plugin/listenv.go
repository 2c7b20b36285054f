package plugin

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/plugin"
)

// listedEnv is an environment of a plugin whose graph was walked once.
type listedEnv struct {
	*Env
	nodes    []*node // without the ways between them
	child    []int32 // states × Actions: a state's number, or −2 − an object's; −1: illegal
	objectOf map[string]int
	logR     []float64
}

// List implements envs.Lister: it asks for every step from every state, a layer of
// the graph at a time, and for every object's reward.
func (e *Env) List(ctx context.Context, atMost int) (envs.Enumerable, error) {
	g := e.NewStates(1).(*states)
	g.ctx, g.limit = ctx, math.MaxInt
	open, ended := []*node{g.first}, []*node(nil) // states and objects, as they are found
	found := map[*node]int{g.first: 0}
	for layer := open; len(layer) > 0; {
		var ask []edge
		for _, x := range layer {
			x.next = make([]*node, e.spec.Actions)
			for a, legal := range x.forward {
				if legal {
					ask = append(ask, edge{x, int32(a)})
				}
			}
		}
		if err := g.learn(plugin.OpStep, ask, next); err != nil {
			return nil, err
		}
		layer = nil
		for _, step := range ask {
			to := *next(step)
			if _, known := found[to]; known {
				continue
			}
			if to.terminal {
				found[to] = len(ended)
				ended = append(ended, to)
			} else {
				found[to] = len(open)
				open = append(open, to)
				layer = append(layer, to)
			}
		}
		if n := max(len(open), len(ended)); n > atMost {
			return nil, fmt.Errorf("%w: %s has more than %d states or objects", envs.ErrNotEnumerable, e.pool, atMost)
		}
	}
	order, err := topological(open)
	if err != nil {
		return nil, e.broken(err)
	}
	if err := e.whole(order, ended); err != nil {
		return nil, e.broken(err)
	}
	e.trials.Store(0) // nothing is left to find
	return e.number(ctx, order, ended, found)
}

// topological orders states so that every step leads to a later one.
func topological(nodes []*node) ([]*node, error) {
	parents := make(map[*node]int, len(nodes))
	for _, x := range nodes {
		for _, to := range x.next {
			if to != nil && !to.terminal {
				parents[to]++
			}
		}
	}
	cycle := errors.New("its graph has a cycle: some steps do not make the object larger")
	if parents[nodes[0]] > 0 { // something leads back to s0
		return nil, cycle
	}
	order := make([]*node, 0, len(nodes))
	order = append(order, nodes[0])
	for i := 0; i < len(order); i++ {
		for _, to := range order[i].next {
			if to != nil && !to.terminal {
				if parents[to]--; parents[to] == 0 {
					order = append(order, to)
				}
			}
		}
	}
	if len(order) < len(nodes) {
		return nil, cycle
	}
	return order, nil
}

// number turns the graph into tables.
func (e *Env) number(ctx context.Context, order, ended []*node, found map[*node]int) (envs.Enumerable, error) {
	l := &listedEnv{Env: e, nodes: order, child: make([]int32, len(order)*e.spec.Actions), objectOf: make(map[string]int, len(ended)), logR: make([]float64, len(ended))}
	for i, x := range order {
		found[x] = i
	}
	for i, x := range order {
		for a, to := range x.next {
			at := &l.child[i*e.spec.Actions+a]
			switch {
			case to == nil:
				*at = -1
			case to.terminal:
				*at = int32(-2 - found[to])
			default:
				*at = int32(found[to])
			}
		}
	}
	req := &plugin.Request{Op: plugin.OpReward}
	for i, x := range ended {
		l.objectOf[string(x.state)] = i
		req.States = append(req.States, x.state)
	}
	for _, x := range order {
		x.next, x.prev = nil, nil
	}
	faults, err := e.pool.LogRewards(ctx, req, func(i int) string { return ended[i].text }, l.logR)
	if err := errors.Join(err, faultsOf(faults)); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *listedEnv) NumStates() int           { return len(l.nodes) }
func (l *listedEnv) NumObjects() int          { return len(l.logR) }
func (l *listedEnv) LogRewards(out []float64) { copy(out, l.logR) }

// Load gives the row a node of the States' own: the list is shared between goroutines.
func (l *listedEnv) Load(s envs.States, row, state int) {
	g, x := s.(*states), l.nodes[state]
	if known := g.known[string(x.state)]; known != nil {
		g.rows[row] = known
		return
	}
	alone := *x
	if g.rows[row] = &alone; len(g.known) < g.limit {
		g.known[string(alone.state)] = &alone
	}
}

func (l *listedEnv) Child(state, action int) (to int, terminal bool) {
	c := l.child[state*l.spec.Actions+action]
	if c <= -2 {
		return int(-2 - c), true
	}
	return int(c), false
}

func (l *listedEnv) Object(s envs.States, row int) int {
	return l.objectOf[string(s.(*states).rows[row].state)]
}
