package paramserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// Join adds a node to the replicated log, without a vote: servers get one when
// the pilot wants it, learners never. Only the leader answers; the call is
// idempotent.
func (s *Server) Join(ctx context.Context, req *wire.JoinRequest) (*wire.JoinReply, error) {
	if req.RaftAddr == "" {
		return s.welcome(), nil // a worker: it only asks where the cluster gossips
	}
	if role := cluster.Role(req.Role); role != "" && role != cluster.RoleServer && role != cluster.RoleLearner {
		return nil, fmt.Errorf("%w: role %q; want server or learner", cluster.ErrInvalid, req.Role)
	}
	if !s.Replica.IsLeader() {
		return nil, s.notLeader()
	}
	err := s.Replica.AddNonvoter(ctx, req.NodeID, req.RaftAddr)
	switch {
	case errors.Is(err, replica.ErrNotLeader):
		return nil, s.notLeader()
	case errors.Is(err, replica.ErrSingle):
		return nil, fmt.Errorf("%w: %w", cluster.ErrConflict, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
	}
	return s.welcome(), nil
}

// welcome tells a node which cluster this is and where it gossips.
func (s *Server) welcome() *wire.JoinReply {
	out := &wire.JoinReply{ClusterID: s.Mesh.ClusterID()}
	for _, m := range s.Mesh.Members() {
		if m.State == cluster.Alive && m.Role == cluster.RoleServer {
			out.Gossip = append(out.Gossip, m.GossipAddr)
		}
	}
	return out
}
