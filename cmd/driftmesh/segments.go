package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// archiveDir is the folder of a data directory that holds archive segments.
const archiveDir = "archive"

func (f *serverFlags) checkArchive() error {
	if f.archive == "" {
		return nil
	}
	return archive.CheckURL("--archive", f.archive)
}

// openArchive opens a node's archive segments: those in its data directory, or
// those in the bucket at url.
func openArchive(ctx context.Context, url string, id *cluster.Identity, rep *replica.Replica, mesh *cluster.Mesh, dial cluster.DialOptions, logger *slog.Logger) (*archive.Node, error) {
	var store *archive.Store
	var err error
	if url == "" {
		store, err = archive.OpenFolder(filepath.Join(id.Dir(), archiveDir))
	} else {
		store, err = archive.OpenBucket(ctx, url, id.ClusterID())
	}
	if err != nil {
		return nil, err
	}
	return archive.NewNode(archive.Config{
		Node: id.NodeID(), Store: store, Mesh: mesh, State: rep, Dial: dial, Clock: clock.Real{}, Logger: logger,
		Servers: func() int { return servers(rep, mesh) },
	}), nil
}

// servers counts the nodes that receive the log and are servers, as far as is
// known; dead ones included.
func servers(rep *replica.Replica, mesh *cluster.Mesh) (n int) {
	members, err := rep.Servers()
	if err != nil {
		return 2 // not known to be the only one
	}
	for _, m := range members {
		if g, ok := mesh.Member(m.ID); !ok || g.Role == cluster.RoleServer {
			n++
		}
	}
	return n
}
