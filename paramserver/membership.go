package paramserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/pilot"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

var _ cluster.MembershipServer = (*Membership)(nil)

// MembershipConfig is what a Membership stands on; every field is required.
type MembershipConfig struct {
	Replica *replica.Replica
	Mesh    *cluster.Mesh
	Peers   *Peers
	Node    string // this node's UUID
	Rules   pilot.Rules
	Clock   clock.Clock
	Logger  *slog.Logger
}

// Membership answers the membership protocol of a replica, compares its state
// with the other replicas', and steers who votes while it leads. Servers have
// one, and so may learners.
type Membership struct {
	MembershipConfig

	mu   sync.Mutex
	down map[string]time.Time // when the leader first saw a member as not alive
}

// NewMembership returns a Membership that answers; Run makes it act.
func NewMembership(c MembershipConfig) *Membership {
	return &Membership{MembershipConfig: c, down: map[string]time.Time{}}
}

// Run steers and compares until ctx ends or the replica stops, whose failure it
// then returns.
func (m *Membership) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { m.steer(ctx) })
	loops.Go(func() { m.compareLoop(ctx) })
	select {
	case <-ctx.Done():
		return nil
	case <-m.Replica.Done():
		cancel()
		return m.Replica.Err()
	}
}

// ReadIndex implements cluster.MembershipServer.
func (m *Membership) ReadIndex(ctx context.Context, _ *wire.ReadIndexRequest) (*wire.ReadIndexReply, error) {
	index, err := m.Replica.ReadIndex(ctx)
	if err != nil {
		return nil, m.refusal(err)
	}
	return &wire.ReadIndexReply{Index: index}, nil
}

// refusal names the leader to a client that asked another node.
func (m *Membership) refusal(err error) error {
	switch {
	case errors.Is(err, replica.ErrNotLeader):
		return m.notLeader()
	case errors.Is(err, replica.ErrUnknown):
		return fmt.Errorf("%w: %w", cluster.ErrOutcomeUnknown, err)
	}
	return fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
}

func (m *Membership) notLeader() error {
	id, _ := m.Replica.Leader()
	leader, _ := m.Mesh.Member(id)
	return cluster.ErrNotLeader{Addr: leader.GRPCAddr}
}

// Chain implements cluster.MembershipServer.
func (m *Membership) Chain(_ context.Context, req *wire.ChainRequest) (*wire.ChainReply, error) {
	out := &wire.ChainReply{Node: m.Node}
	m.Replica.Read(func(s *fsm.State) {
		out.Generation = s.Generation()
		for _, c := range s.Checkpoints() {
			if c.Index > req.After {
				out.Checkpoints = append(out.Checkpoints, wire.ChainPoint{Index: c.Index, Chain: slices.Clone(c.Chain[:])})
			}
		}
	})
	return out, nil
}

// Members implements cluster.MembershipServer.
func (m *Membership) Members(context.Context, *wire.MembersRequest) (*wire.MembersReply, error) {
	servers, err := m.Replica.Servers()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
	}
	out := &wire.MembersReply{LastIndex: m.Replica.LastIndex()}
	out.Leader, _ = m.Replica.Leader()
	m.Replica.Read(func(s *fsm.State) { out.Level = s.FeatureLevel() })
	in := map[string]bool{}
	for _, s := range servers {
		in[s.ID] = true
		member := m.describe(s.ID)
		member.Standing = wire.StandingNonvoter
		if s.Voter {
			member.Standing = wire.StandingVoter
			out.Quorum.Voters++
			if member.State == string(cluster.Alive) {
				out.Quorum.Alive++
			}
		}
		member.RaftAddr = cmp.Or(member.RaftAddr, s.Addr)
		out.Members = append(out.Members, member)
	}
	for _, g := range m.Mesh.Members() {
		if !in[g.ID] && g.RaftAddr != "" && g.State == cluster.Alive {
			member := m.describe(g.ID)
			member.Standing = wire.StandingNone
			out.Members = append(out.Members, member)
		}
	}
	out.Quorum.Needed = pilot.Quorum(out.Quorum.Voters)
	slices.SortFunc(out.Members, func(a, b wire.LogMember) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// describe is what this node knows of another one.
func (m *Membership) describe(id string) wire.LogMember {
	out := wire.LogMember{ID: id, State: "unknown"}
	if g, ok := m.Mesh.Member(id); ok {
		out.Role, out.State, out.GRPCAddr, out.RaftAddr, out.Level = string(g.Role), string(g.State), g.GRPCAddr, g.RaftAddr, g.Level
	}
	if id == m.Node {
		out.State, out.LastIndex = string(cluster.Alive), m.Replica.LastIndex()
	} else if m.Replica.IsLeader() {
		out.LastIndex, _ = m.Replica.Follower(id)
	}
	return out
}

// Remove implements cluster.MembershipServer. It does nothing for a node that is
// no member, and refuses what would leave fewer
// live voters than a quorum; a leader that is to go hands leadership over first.
func (m *Membership) Remove(ctx context.Context, req *wire.RemoveRequest) (*wire.RemoveReply, error) {
	if !m.Replica.IsLeader() {
		return nil, m.notLeader()
	}
	view, err := m.view()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
	}
	if !slices.ContainsFunc(view.Members, func(x pilot.Member) bool { return x.ID == req.Node }) {
		return &wire.RemoveReply{}, nil
	}
	if err := pilot.CheckRemoval(view.Members, req.Node); err != nil {
		return nil, fmt.Errorf("%w: removing %s: %w", cluster.ErrConflict, req.Node, err)
	}
	if req.Node == m.Node {
		if err := m.Replica.TransferLeadership(ctx); err != nil {
			return nil, m.refusal(err)
		}
		return nil, m.notLeader() // the successor removes it
	}
	if err := m.Replica.RemoveServer(ctx, req.Node); err != nil {
		return nil, m.refusal(err)
	}
	m.note(ctx, fsm.EventRemoved, req.Node, "on request")
	return &wire.RemoveReply{}, nil
}

// note writes an event into the cluster's history, once it keeps one.
func (m *Membership) note(ctx context.Context, kind, node, detail string) {
	var level uint8
	m.Replica.Read(func(s *fsm.State) { level = s.FeatureLevel() })
	if level < 2 {
		return
	}
	cmd := &fsm.Note{Kind: kind, Node: node, Detail: detail[:min(len(detail), fsm.MaxDetail)], Stamp: m.Clock.Now().UnixNano()}
	if _, err := m.Replica.Apply(ctx, cmd); err != nil && ctx.Err() == nil {
		m.Logger.Debug("event not recorded", "kind", kind, "about", node, "error", err)
	}
}

// status is a node's condition in the words of raft-autopilot.
func status(s cluster.State) autopilot.NodeStatus {
	switch s {
	case cluster.Alive:
		return autopilot.NodeAlive
	case cluster.Dead:
		return autopilot.NodeFailed
	case cluster.Left:
		return autopilot.NodeLeft
	}
	return autopilot.NodeUnknown
}
