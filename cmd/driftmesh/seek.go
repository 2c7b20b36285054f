package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// seekEvery is the pause between two looks for servers, by a node that gossips
// with no other.
const seekEvery = time.Second

// seekServers asks the servers of --join where they gossip now whenever gossip
// shows no other live one, and joins them there, until ctx ends. Gossip alone looks for
// lost servers where they were; after a restore, or once all of them have been
// replaced, they are elsewhere.
func (f *nodeFlags) seekServers(ctx context.Context, mesh *cluster.Mesh, dial cluster.DialOptions, logger *slog.Logger) {
	req := &wire.JoinRequest{ClusterID: mesh.ClusterID(), NodeID: mesh.ID()}
	tick := time.NewTicker(seekEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, addr := range f.join {
			if servesNearby(mesh) {
				break
			}
			reply, err := askToJoin(ctx, addr, req, dial)
			if err == nil {
				err = mesh.Join(ctx, reply.Gossip...)
			}
			if err != nil {
				logger.Debug("no server found", "at", addr, "error", err)
			}
		}
	}
}

// servesNearby says whether gossip shows a live server beside this node.
func servesNearby(mesh *cluster.Mesh) bool {
	for _, m := range mesh.Members() {
		if m.Role == cluster.RoleServer && m.State == cluster.Alive && m.ID != mesh.ID() {
			return true
		}
	}
	return false
}
