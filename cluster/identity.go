package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/filelock"
)

var (
	// ErrInitialised is returned by Init for a directory that already belongs
	// to a cluster, and by SetClusterID for a change of cluster.
	ErrInitialised = errors.New("already belongs to a cluster")
	// ErrLocked is returned when another process uses the data directory.
	ErrLocked = filelock.ErrHeld
	// ErrDamaged is returned for a data directory whose identity cannot be read
	// or is missing beside data.
	ErrDamaged = errors.New("damaged data directory")
)

const (
	identityFile   = "node.json"
	lockFile       = "lock"
	identityFormat = 1
)

// Identity is a node's data directory: the ID that was born with it, the
// cluster it belongs to, and the lock that keeps other processes out. It is
// safe for concurrent use.
//
// An ID never moves to another directory: a voter that came back under its old
// ID with an empty log could vote twice in one term and lose a committed entry.
type Identity struct {
	dir  string
	lock *os.File

	mu   sync.Mutex
	file identityRecord
}

// identityRecord is the content of node.json.
type identityRecord struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	ClusterID string    `json:"cluster_id"`
	Created   time.Time `json:"created"`
	// Generation of the cluster that a restore made, 0 of one that was founded
	// or joined.
	Generation uint64 `json:"generation,omitempty"`
}

// Init founds a cluster: it gives the directory, made if missing, a new
// cluster ID, and a node ID if it has none. A directory that belongs to a
// cluster already is ErrInitialised. The directory stays locked until Close.
func Init(dir string) (*Identity, error) {
	id, err := LoadOrCreate(dir)
	if err != nil {
		return nil, err
	}
	if old := id.ClusterID(); old != "" {
		err := fmt.Errorf("cluster: %s: %w: %s", dir, ErrInitialised, old)
		return nil, errors.Join(err, id.Close())
	}
	fresh, err := uuid.NewRandom()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cluster: new cluster ID: %w", err), id.Close())
	}
	if err := id.SetClusterID(fresh.String()); err != nil {
		return nil, errors.Join(err, id.Close())
	}
	return id, nil
}

// LoadOrCreate locks the directory, made if missing, and returns its identity;
// an empty directory gets a new node ID and no cluster. A directory in use is
// ErrLocked. One whose node.json is unreadable, or is missing although there are
// subdirectories (a log, snapshots), is ErrDamaged and left untouched.
func LoadOrCreate(dir string) (*Identity, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cluster: data directory: %w", err)
	}
	lock, err := filelock.Acquire(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("cluster: data directory %s: %w", dir, err)
	}
	id := &Identity{dir: dir, lock: lock}
	if err := id.load(); err != nil {
		return nil, errors.Join(err, id.Close())
	}
	return id, nil
}

func (id *Identity) load() error {
	path := filepath.Join(id.dir, identityFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return id.create()
	}
	if err != nil {
		return fmt.Errorf("cluster: identity: %w", err)
	}
	var rec identityRecord
	if err := json.Unmarshal(data, &rec); err != nil {
		return fmt.Errorf("cluster: %s: %w: %w", path, ErrDamaged, err)
	}
	if rec.Format != identityFormat {
		return fmt.Errorf("cluster: %s: format %d; this binary reads format %d", path, rec.Format, identityFormat)
	}
	if uuid.Validate(rec.ID) != nil || rec.ClusterID != "" && uuid.Validate(rec.ClusterID) != nil {
		return fmt.Errorf("cluster: %s: %w: node %q and cluster %q should be UUIDs", path, ErrDamaged, rec.ID, rec.ClusterID)
	}
	id.file = rec
	return nil
}

func (id *Identity) create() error {
	entries, err := os.ReadDir(id.dir)
	if err != nil {
		return fmt.Errorf("cluster: data directory: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			return fmt.Errorf("cluster: %s: %w: it has data (%s) but no %s; old data must not get a new identity, so start over in an empty directory",
				id.dir, ErrDamaged, e.Name(), identityFile)
		}
	}
	fresh, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("cluster: new node ID: %w", err)
	}
	return id.store(identityRecord{Format: identityFormat, ID: fresh.String(), Created: time.Now().UTC()})
}

// store makes rec durable before it becomes visible: a crash leaves the old
// file or the new one, whole.
func (id *Identity) store(rec identityRecord) error {
	data, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return fmt.Errorf("cluster: identity: %w", err)
	}
	if err := atomicfile.WriteBytes(filepath.Join(id.dir, identityFile), 0o644, append(data, '\n')); err != nil {
		return fmt.Errorf("cluster: identity: %w", err)
	}
	id.file = rec
	return nil
}

// NodeID returns the node's UUID.
func (id *Identity) NodeID() string {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.file.ID
}

// ClusterID returns the UUID of the node's cluster, "" while it has none.
func (id *Identity) ClusterID() string {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.file.ClusterID
}

// Created returns when the identity was born.
func (id *Identity) Created() time.Time {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.file.Created
}

// Dir returns the data directory.
func (id *Identity) Dir() string { return id.dir }

// SetClusterID makes the node a member of a cluster, once: repeating the same
// ID succeeds, another one is ErrInitialised.
func (id *Identity) SetClusterID(cluster string) error {
	if err := uuid.Validate(cluster); err != nil {
		return fmt.Errorf("cluster: cluster ID %q: want a UUID: %w", cluster, err)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	switch id.file.ClusterID {
	case cluster:
		return nil
	case "":
		rec := id.file
		rec.ClusterID = cluster
		return id.store(rec)
	}
	return fmt.Errorf("cluster: %s: %w: %s; it cannot move to %s, which needs a directory of its own", id.dir, ErrInitialised, id.file.ClusterID, cluster)
}

// Close releases the directory.
func (id *Identity) Close() error {
	if err := id.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("cluster: release %s: %w", id.dir, err)
	}
	return nil
}
