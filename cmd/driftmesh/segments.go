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
// those in the bucket at url. A guest leaves none in its directory.
func openArchive(ctx context.Context, url string, guest bool, id *cluster.Identity, rep *replica.Replica, mesh *cluster.Mesh, dial cluster.DialOptions, logger *slog.Logger) (*archive.Node, error) {
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
		Node: id.NodeID(), Store: store, Mesh: mesh, State: rep, Dial: dial, Clock: clock.Real{}, Logger: logger, Guest: guest,
		Members: func() (ids []string) {
			servers, err := rep.Servers()
			if err != nil {
				return nil
			}
			for _, m := range servers {
				ids = append(ids, m.ID)
			}
			return ids
		},
	}), nil
}
