package paramserver

import (
	"context"
	"slices"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/pilot"
)

const (
	// steerEvery is how often a leader looks at its members.
	steerEvery = 250 * time.Millisecond
	// steerPatience bounds one change of the configuration, catching up included.
	steerPatience = 10 * time.Second
	// steerPause follows a change that failed.
	steerPause = 2 * time.Second
	// answers is for how long a member counts as alive after its last answer to
	// the leader, whatever gossip says.
	answers = time.Second
	// nearEnd is how many entries a log may be behind and count as caught up;
	// Replica.AddVoter waits for the rest.
	nearEnd = 128
	// maxNews bounds the events of one look.
	maxNews = 32
	// newsGap is the shortest time between two events of one node: one that comes
	// and goes faster is told of as it is at the end.
	newsGap = 2 * time.Second
)

// steer looks at the members while this node leads, and makes what pilot.Plan
// says of it, one change at a time.
func (m *Membership) steer(ctx context.Context) {
	tick := time.NewTicker(steerEvery)
	defer tick.Stop()
	var history history
	var upgrade activation
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !m.Replica.IsLeader() {
			m.mu.Lock()
			clear(m.down) // a new leader counts anew
			m.mu.Unlock()
			history.current, upgrade = false, activation{}
			continue
		}
		m.tell(ctx, &history)
		m.activate(ctx, &upgrade)
		view, err := m.view()
		if err != nil {
			continue // the replica stops
		}
		for _, a := range pilot.Plan(view) {
			if err := m.carryOut(ctx, a); err != nil {
				if ctx.Err() == nil {
					m.Logger.Warn("member not changed", "change", a.Kind, "about", a.Node, "reason", a.Reason, "error", err)
				}
				pause(ctx, steerPause)
				break
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// carryOut makes one change, and records it.
func (m *Membership) carryOut(ctx context.Context, a pilot.Action) error {
	bounded, cancel := context.WithTimeout(ctx, steerPatience)
	defer cancel()
	var err error
	kind := ""
	switch a.Kind {
	case pilot.Promote:
		kind = fsm.EventPromoted
		err = m.promote(bounded, a.Node)
	case pilot.Demote:
		kind = EventDemoted
		err = m.Replica.Demote(bounded, a.Node)
	case pilot.Remove:
		kind = fsm.EventRemoved
		err = m.Replica.RemoveServer(bounded, a.Node)
	}
	if err != nil {
		return err
	}
	m.Logger.Info("member changed", "change", a.Kind, "about", a.Node, "reason", a.Reason)
	m.note(ctx, kind, a.Node, a.Reason)
	return nil
}

// EventDemoted is the kind of event that takes a node's vote and leaves it the log.
const EventDemoted = "node-demoted"

func (m *Membership) promote(ctx context.Context, id string) error {
	servers, err := m.Replica.Servers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.ID == id {
			return m.Replica.AddVoter(ctx, id, s.Addr)
		}
	}
	return nil
}

// view is what the pilot decides from: the raft configuration, with what gossip
// and the leader's own traffic say of each member.
func (m *Membership) view() (pilot.View, error) {
	servers, err := m.Replica.Servers()
	if err != nil {
		return pilot.View{}, err
	}
	now, wall := m.Clock.Now(), time.Now() // Follower knows real times
	end := m.Replica.LastIndex()
	m.mu.Lock()
	defer m.mu.Unlock()
	out := pilot.View{Leader: m.Node, Rules: m.Rules}
	for _, s := range servers {
		member := pilot.Member{ID: s.ID, Voter: s.Voter, Status: autopilot.NodeUnknown}
		if g, ok := m.Mesh.Member(s.ID); ok {
			member.Status, member.Role = status(g.State), pilot.Role(g.Role)
		}
		reached, contact := m.Replica.Follower(s.ID)
		if s.ID == m.Node || wall.Sub(contact) < answers {
			member.Status = autopilot.NodeAlive
		}
		member.CaughtUp = reached+nearEnd >= end && wall.Sub(contact) < answers
		if member.Status == autopilot.NodeAlive {
			delete(m.down, s.ID)
		} else {
			if _, known := m.down[s.ID]; !known {
				m.down[s.ID] = now
			}
			member.Down = now.Sub(m.down[s.ID])
		}
		out.Members = append(out.Members, member)
	}
	return out, nil
}

// history is what the cluster's events say of its nodes, read as they come.
type history struct {
	current  bool   // read once in this term of leadership
	after    uint64 // log index of the last event read
	complete bool   // it reaches back to the beginning
	last     map[string]autopilot.NodeStatus
	told     map[string]time.Time // when this leader told of a node last
}

func (h *history) read(s *fsm.State) {
	if h.last == nil {
		h.last, h.told = map[string]autopilot.NodeStatus{}, map[string]time.Time{}
	}
	for _, e := range s.Events(h.after) {
		if h.after == 0 {
			h.complete = e.Kind == fsm.EventInit || e.Kind == fsm.EventRestored
		}
		h.after = e.Index
		switch e.Kind {
		case fsm.EventJoined:
			h.last[e.Node] = autopilot.NodeAlive
		case fsm.EventDied:
			h.last[e.Node] = autopilot.NodeFailed
		case fsm.EventLeft:
			h.last[e.Node] = autopilot.NodeLeft
		}
	}
}

// tell records who joined, died and left. What counts is the history, not what
// this leader saw: a death that came with its predecessor's is told too, and
// nothing is told twice.
func (m *Membership) tell(ctx context.Context, h *history) {
	if !h.current { // a new leader's state may lack what its predecessor recorded
		if err := m.Replica.Linearize(ctx); err != nil {
			return
		}
		h.current = true
	}
	var level uint8
	m.Replica.Read(func(s *fsm.State) {
		level = s.FeatureLevel()
		h.read(s)
	})
	if level < 2 {
		return
	}
	var seen []pilot.Sighting
	for _, g := range m.Mesh.Members() {
		seen = append(seen, pilot.Sighting{ID: g.ID, Role: string(g.Role), Status: status(g.State)})
	}
	kinds := map[autopilot.NodeStatus]string{
		autopilot.NodeAlive: fsm.EventJoined, autopilot.NodeFailed: fsm.EventDied, autopilot.NodeLeft: fsm.EventLeft,
	}
	news, now := pilot.News(seen, h.last, h.complete), m.Clock.Now()
	news = slices.DeleteFunc(news, func(s pilot.Sighting) bool { return now.Sub(h.told[s.ID]) < newsGap })
	for _, s := range news[:min(len(news), maxNews)] {
		h.told[s.ID] = now
		m.note(ctx, kinds[s.Status], s.ID, s.Role)
	}
}
