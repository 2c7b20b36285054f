package replica

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/filelock"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// seedTerm is the raft term of a seeded snapshot; the first election is for the
// term after it.
const seedTerm = 1

// Seed makes dir, which must be empty or missing, the data directory of a
// cluster's first server: a snapshot of the state, with the node of that ID as
// the only voter, and an empty log after it. Open without Bootstrap then leads.
// A directory with a history is ErrNotEmpty.
func Seed(dir, id string, view *fsm.View) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	lock, err := filelock.Acquire(filepath.Join(dir, lockName))
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if used, err := Initialised(dir); err != nil || used {
		return errors.Join(err, fmt.Errorf("seed %s: %w", dir, ErrNotEmpty))
	}
	if err := seedSnapshot(dir, id, view); err != nil {
		return fmt.Errorf("seed %s: %w", dir, err)
	}
	if err := seedLog(dir); err != nil {
		return fmt.Errorf("seed %s: %w", dir, err)
	}
	return atomicfile.SyncDir(dir)
}

func seedSnapshot(dir, id string, view *fsm.View) error {
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, retain, newBridge(discard, "raft"))
	if err != nil {
		return err
	}
	// The address stands for one that is not known yet: peers are resolved by ID.
	self := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(id), Address: "127.0.0.1:0"}}}
	_, trans := raft.NewInmemTransport("")
	defer trans.Close()
	sink, err := store.Create(raft.SnapshotVersionMax, max(1, view.Index()), seedTerm, self, max(1, view.Index()), trans)
	if err != nil {
		return err
	}
	return frozen{view}.Persist(sink)
}

// seedLog creates the log's files and the term that the snapshot is of.
func seedLog(dir string) error {
	store, stable, err := openStore(Config{Dir: dir, Logger: discard}, func(error) {})
	if err != nil {
		return err
	}
	return errors.Join(stable.SetUint64([]byte("CurrentTerm"), seedTerm), store.close())
}
