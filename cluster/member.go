package cluster

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/hashicorp/memberlist"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// ProtocolVersion is the version of the mesh protocol that this binary speaks.
const ProtocolVersion = 1

// Role says what a node is for.
type Role string

// Roles of nodes. Only servers are potential voters; a learner receives the log
// and trains.
const (
	RoleServer  Role = "server"
	RoleLearner Role = "learner"
	RoleWorker  Role = "worker"
)

func (r Role) known() bool { return r == RoleServer || r == RoleLearner || r == RoleWorker }

// State is a member's condition as gossip sees it: a hint, late by seconds.
type State string

// States of members.
const (
	Alive State = "alive"
	Dead  State = "dead" // does not answer
	Left  State = "left" // said good-bye
)

// Member is one node as gossip sees it.
type Member struct {
	ID         string // node UUID
	Role       Role
	GRPCAddr   string // "" for a node that serves nothing
	RaftAddr   string // "" for workers
	GossipAddr string
	Slots      int // sampler loops
	Protocol   int
	State      State
	Level      uint8 // feature level of the log that its binary supports; 0 for one that does not say
	// Group names the nodes that share one cache of parameters: one machine, as a
	// rule. "" for a node that shares none.
	Group string
	// Follows holds the marks of the jobs whose parameters the node keeps up with;
	// see FollowsJob.
	Follows string

	revision  uint64 // of the roster, when this record last changed
	departing bool   // said good-bye
}

// Info returns the member as it appears in a status reply.
func (m Member) Info() wire.MemberInfo {
	return wire.MemberInfo{ID: m.ID, Role: string(m.Role), Addr: m.GRPCAddr, Alive: m.State == Alive, Slots: m.Slots}
}

// nodeMeta travels with every alive message of memberlist, which allows
// memberlist.MetaMaxSize (512) bytes.
type nodeMeta struct {
	ClusterID string `msgpack:"c"`
	Role      Role   `msgpack:"r"`
	GRPCAddr  string `msgpack:"g"`
	RaftAddr  string `msgpack:"f"`
	Slots     int    `msgpack:"s"`
	Protocol  int    `msgpack:"p"`
	Level     uint8  `msgpack:"l,omitempty"`
	Group     string `msgpack:"k,omitempty"`
	Follows   string `msgpack:"w,omitempty"`
}

func (m nodeMeta) encode() ([]byte, error) {
	data, err := wire.Marshal(&m)
	if err != nil {
		return nil, err
	}
	if len(data) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("%w: node metadata takes %d bytes, gossip carries %d; shorten the addresses", wire.ErrTooLarge, len(data), memberlist.MetaMaxSize)
	}
	return data, nil
}

// decodeMeta parses a peer's metadata.
func decodeMeta(data []byte) (nodeMeta, error) {
	if len(data) > memberlist.MetaMaxSize {
		return nodeMeta{}, fmt.Errorf("%w: node metadata of %d bytes", wire.ErrTooLarge, len(data))
	}
	var m nodeMeta
	if err := wire.Unmarshal(data, &m); err != nil {
		return nodeMeta{}, err
	}
	switch {
	case !m.Role.known():
		return nodeMeta{}, fmt.Errorf("%w: role %q", wire.ErrFrame, m.Role)
	case m.Slots < 0:
		return nodeMeta{}, fmt.Errorf("%w: %d slots", wire.ErrFrame, m.Slots)
	}
	return m, nil
}

// admit decides whether a node may be a member of cluster.
func admit(cluster string, n *memberlist.Node) (nodeMeta, error) {
	if n.Name == "" {
		return nodeMeta{}, errors.New("a node without an ID")
	}
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return nodeMeta{}, fmt.Errorf("node %s at %s: %w", n.Name, n.Address(), err)
	}
	if m.ClusterID == "" || m.ClusterID != cluster {
		return nodeMeta{}, fmt.Errorf("%w: node %s at %s belongs to %s, this node to %s", ErrForeignCluster, n.Name, n.Address(), orNone(m.ClusterID), cluster)
	}
	return m, nil
}

func (m nodeMeta) member(n *memberlist.Node, state State) Member {
	return Member{
		ID:         n.Name,
		Role:       m.Role,
		GRPCAddr:   m.GRPCAddr,
		RaftAddr:   m.RaftAddr,
		GossipAddr: net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port))),
		Slots:      m.Slots,
		Protocol:   m.Protocol,
		State:      state,
		Level:      m.Level,
		Group:      m.Group,
		Follows:    m.Follows,
	}
}
