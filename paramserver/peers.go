package paramserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

const (
	// readPatience bounds a linearizable read: an election and some more.
	readPatience = 3 * time.Second
	// peerPatience bounds one question to a peer, which may have been stopped.
	peerPatience = 500 * time.Millisecond
	// peerPause is the pause before the leader is asked again.
	peerPause = 20 * time.Millisecond
)

// Peers asks the other replicas of the cluster. It is safe for concurrent use.
type Peers struct {
	mesh    *cluster.Mesh
	clients *cluster.Leader // keeps one client per address
}

// NewPeers returns the peers that mesh knows; o says how they are dialled.
func NewPeers(mesh *cluster.Mesh, o cluster.DialOptions) *Peers {
	return &Peers{mesh: mesh, clients: cluster.NewLeader(mesh.ClusterID(), func() []string { return nil }, o)}
}

// Close ends every connection.
func (p *Peers) Close() error { return p.clients.Close() }

// ReadIndex is a replica.Config.ReadIndex: it asks the node that leader names,
// again and again while that changes, for at most three seconds. Without a leader
// it fails with replica.ErrNotLeader.
func (p *Peers) ReadIndex(ctx context.Context, leader func() (id string)) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	err := errors.New("no leader is known")
	for {
		if id := leader(); id != "" {
			var reply *wire.ReadIndexReply
			if reply, err = p.readIndex(ctx, id); err == nil {
				return reply.Index, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", replica.ErrNotLeader, err)
		case <-time.After(peerPause):
		}
	}
}

func (p *Peers) readIndex(ctx context.Context, id string) (*wire.ReadIndexReply, error) {
	c, err := p.client(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	return c.ReadIndex(ctx, &wire.ReadIndexRequest{ClusterID: p.mesh.ClusterID()})
}

// chain asks a node for its hash chain.
func (p *Peers) chain(ctx context.Context, id string) (*wire.ChainReply, error) {
	c, err := p.client(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	return c.Chain(ctx, &wire.ChainRequest{ClusterID: p.mesh.ClusterID()})
}

func (p *Peers) client(id string) (*cluster.Client, error) {
	m, ok := p.mesh.Member(id)
	if !ok || m.GRPCAddr == "" {
		return nil, fmt.Errorf("%w: no address known of node %s", cluster.ErrUnavailable, id)
	}
	return p.clients.Client(m.GRPCAddr)
}
