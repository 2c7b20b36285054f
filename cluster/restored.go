package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// InitRestored makes an empty directory the home of the first server of a
// restored cluster: a new node ID, the cluster's ID, and its generation, which
// tells it from the cluster that was. The directory stays locked until Close.
// One that has files is ErrInitialised.
func InitRestored(dir, clusterID string, generation uint64) (*Identity, error) {
	if err := uuid.Validate(clusterID); err != nil {
		return nil, fmt.Errorf("cluster: cluster ID %q: want a UUID: %w", clusterID, err)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("cluster: %s: %w: it holds %s", dir, ErrInitialised, filepath.Join(dir, entries[0].Name()))
	}
	id, err := LoadOrCreate(dir)
	if err != nil {
		return nil, err
	}
	id.mu.Lock()
	rec := id.file
	rec.ClusterID, rec.Generation = clusterID, generation
	err = id.store(rec)
	id.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, id.Close())
	}
	return id, nil
}

// Generation returns the generation that the node's directory was restored
// with, 0 if it was not. The replicated state may know a newer one.
func (id *Identity) Generation() uint64 {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.file.Generation
}
