package plugin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/plugin"
)

// maxKnown is how many nodes States remember before they begin anew.
const maxKnown = 1 << 16

// states implements envs.States: a row is a node of the graph.
type states struct {
	env   *Env
	ctx   context.Context
	first *node
	limit int // of what is known, before it is forgotten
	rows  []*node
	known map[string]*node // by state
	texts map[string]*node // objects that were parsed, by text
}

// forget drops what is known, but for where the rows are.
func (s *states) forget() {
	for _, x := range s.known {
		x.next, x.prev = nil, nil // or what rows hold would keep all the others
	}
	s.known, s.texts = map[string]*node{string(s.first.state): s.first}, map[string]*node{}
}

// intern returns the node of that state, which may be known already.
func (s *states) intern(x *node) *node {
	if old := s.known[string(x.state)]; old != nil {
		return old
	}
	s.known[string(x.state)] = x
	return x
}

func (s *states) Within(ctx context.Context) { s.ctx = ctx }
func (s *states) Len() int                   { return len(s.rows) }
func (s *states) Terminal(row int) bool      { return s.rows[row].terminal }
func (s *states) Text(row int) string        { return s.rows[row].text }

func (s *states) Reset(rows []int32) {
	for _, row := range rows {
		s.rows[row] = s.first
	}
}

// CopyRow copies the node: the other states may belong to another goroutine next.
func (s *states) CopyRow(dst int, from envs.States, src int) {
	f := from.(*states)
	x := f.rows[src]
	if f != s {
		alone := *x
		alone.next, alone.prev = nil, nil
		x = s.intern(&alone)
	}
	s.rows[dst] = x
}

func (s *states) AppendKey(dst []byte, row int) []byte { return append(dst, s.rows[row].state...) }

func (s *states) AppendFeatures(dst []int32, row int) []int32 {
	return append(dst, s.rows[row].active...)
}

func (s *states) ForwardMask(row int, mask []bool)  { copy(mask, s.rows[row].forward) }
func (s *states) BackwardMask(row int, mask []bool) { copy(mask, s.rows[row].backward) }

// BackwardOf: the same number, and the only way back from a stop.
func (s *states) BackwardOf(_, actions, out []int32) {
	for i, a := range actions {
		if out[i] = a; s.env.stop && int(a) == s.env.spec.Actions-1 {
			out[i] = envs.Only
		}
	}
}

func (s *states) ForwardOf(_, actions, out []int32) {
	for i, b := range actions {
		if out[i] = b; b == envs.Only {
			out[i] = int32(s.env.spec.Actions - 1)
		}
	}
}

// edge is a step that no request has told of yet.
type edge struct {
	from   *node
	action int32
}

// Forward asks about the steps that nobody took before, all at once.
func (s *states) Forward(rows, actions []int32) error {
	var ask []edge
	for i, row := range rows {
		x, a := s.rows[row], actions[i]
		if a < 0 || int(a) >= len(x.forward) || !x.forward[a] {
			return fmt.Errorf("%s: row %d: forward action %d is illegal in %s", Name, row, a, x.name())
		}
		if x.next == nil {
			x.next = make([]*node, len(x.forward))
		}
		ask = append(ask, edge{x, a})
	}
	if err := s.learn(plugin.OpStep, ask, next); err != nil {
		return err
	}
	if err := s.try(ask); err != nil {
		return err
	}
	for i, row := range rows {
		s.rows[row] = s.rows[row].next[actions[i]]
	}
	return nil
}

// next is where it is remembered that a step leads.
func next(e edge) **node { return &e.from.next[e.action] }

// prev is where it is remembered that a step came from.
func prev(e edge) **node { return &e.from.prev[e.action] }

// ways are the parents of a node, as far as they are known.
func (s *states) ways(x *node) []*node {
	if x.prev == nil {
		x.prev = make([]*node, s.env.spec.Actions) // a stop counts with the others
	}
	return x.prev
}

// Backward mirrors Forward.
func (s *states) Backward(rows, actions []int32) error {
	var ask []edge
	for i, row := range rows {
		x, b := s.rows[row], actions[i]
		switch {
		case b == envs.Only && s.env.stop && x.terminal:
			b = int32(s.env.spec.Actions - 1)
		case b < 0 || int(b) >= len(x.backward) || !x.backward[b]:
			return fmt.Errorf("%s: row %d: backward action %d is illegal in %s", Name, row, b, x.name())
		}
		s.ways(x)
		ask = append(ask, edge{x, b})
	}
	if err := s.learn(plugin.OpUndo, ask, prev); err != nil {
		return err
	}
	for i, row := range rows {
		s.rows[row] = ask[i].from.prev[ask[i].action]
	}
	return nil
}

// learn asks where steps lead that are not known; place is where that is remembered.
func (s *states) learn(op string, steps []edge, place func(edge) **node) error {
	var ask []edge
	asked := map[edge]bool{}
	for _, e := range steps {
		if *place(e) == nil && !asked[e] {
			asked[e] = true
			ask = append(ask, e)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	if len(s.known) > s.limit {
		s.forget()
		for _, e := range steps { // forget has emptied them
			if op == plugin.OpStep {
				e.from.next = make([]*node, s.env.spec.Actions)
			} else {
				s.ways(e.from)
			}
		}
		return s.learn(op, steps, place)
	}
	if op == plugin.OpUndo {
		return s.undo(ask)
	}
	return s.request(op, ask, next, s.stepped)
}

// request asks where steps lead; check is what must hold of the answers.
func (s *states) request(op string, ask []edge, place func(edge) **node, check func(edge, *node) error) error {
	req := &plugin.Request{Op: op, Actions: make([]byte, 0, 4*len(ask))}
	for _, e := range ask {
		req.States = append(req.States, e.from.state)
		req.Actions = binary.LittleEndian.AppendUint32(req.Actions, uint32(e.action))
	}
	return s.env.pool.Each(s.ctx, req, func(first int, reply *plugin.Reply) error {
		got, err := s.env.nodes(reply, len(reply.Nodes.States))
		for i := 0; err == nil && i < len(got); i++ {
			e, to := ask[first+i], s.intern(got[i])
			if err = check(e, to); err == nil {
				*place(e) = to
			}
		}
		if err != nil {
			return s.env.broken(fmt.Errorf("%s: %w", op, err))
		}
		return nil
	})
}

// LogReward asks about objects whose reward is not known.
func (s *states) LogReward(rows []int32, out []float64) error {
	var ask []*node
	asked := map[*node]int{}
	for _, row := range rows {
		x := s.rows[row]
		if !x.terminal {
			return fmt.Errorf("%s: row %d: no reward yet: unfinished %s", Name, row, x.name())
		}
		if _, known := asked[x]; !known && !x.rewarded {
			asked[x] = len(ask)
			ask = append(ask, x)
		}
	}
	why := map[*node]error{}
	if len(ask) > 0 {
		req := &plugin.Request{Op: plugin.OpReward}
		for _, x := range ask {
			req.States = append(req.States, x.state)
		}
		got := make([]float64, len(ask))
		faults, err := s.env.pool.LogRewards(s.ctx, req, func(i int) string { return ask[i].text }, got)
		if err != nil {
			return err
		}
		for i, x := range ask {
			x.logR, x.rewarded = got[i], true
		}
		for _, f := range faults { // asked again next time
			ask[f.Item].rewarded = false
			why[ask[f.Item]] = f.Err
		}
	}
	bad := &envs.RewardFaults{}
	for i, row := range rows {
		x := s.rows[row]
		out[i] = x.logR
		if err := why[x]; err != nil {
			bad.Index, bad.Errs = append(bad.Index, i), append(bad.Errs, err)
		}
	}
	if len(bad.Index) > 0 {
		return bad
	}
	return nil
}

// Parse asks the plugin, once for each text. The row is unchanged on an error.
func (s *states) Parse(row int, text string) error {
	if x := s.texts[text]; x != nil {
		s.rows[row] = x
		return nil
	}
	reply, err := s.env.pool.Call(s.ctx, &plugin.Request{Op: plugin.OpParse, Texts: []string{text}})
	if err != nil {
		return err
	}
	got, err := s.env.nodes(reply, 1)
	if err == nil && !got[0].terminal {
		err = errors.New("it is no finished object")
	}
	if err != nil {
		return fmt.Errorf("plugin %s: %.80q: %w", s.env.pool, text, err)
	}
	if len(s.texts) > s.limit {
		s.forget()
	}
	x := s.intern(got[0])
	s.texts[text], s.rows[row] = x, x
	return nil
}

// reward gives the fields that a job's reward has too.
func reward(c *Config) *job.Reward {
	return &job.Reward{Command: c.Command, Params: c.Params, Processes: c.Processes, TimeoutMS: c.TimeoutMS, Batch: c.Batch, Retries: c.Retries}
}

// validate finds what job.Reward's own fields would be refused for.
func (c *Config) validate() error { return reward(c).Check() }
