package replica

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/driftmesh/driftmesh/internal/filelock"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

// Names inside a data directory. raft keeps snapshots in a folder of that name
// under the one it is given.
const (
	lockName      = "lock"
	tailName      = "log-tail"
	logName       = "log"
	snapshotsName = "snapshots"
)

// Initialised says whether a data directory has a history, in which case it
// must be opened without Bootstrap.
func Initialised(dir string) (bool, error) {
	snapshots, err := snapshotNames(dir)
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(filepath.Join(dir, tailName)); errors.Is(err, fs.ErrNotExist) {
		return len(snapshots) > 0, nil
	}
	tail, err := openTail(filepath.Join(dir, tailName))
	if err != nil {
		return false, damaged("%w", err)
	}
	used := tail.rec.last > 0 || tail.rec.removed > 0 || len(snapshots) > 0
	return used, tail.close()
}

// Open starts a replica. It verifies the whole log and the newest snapshot
// first: if anything that was acknowledged is missing or unreadable it fails
// with ErrDamaged. Other errors: ErrNotEmpty, fsm.ErrUnknownCommand and
// fsm.ErrNewerSnapshot (a newer build wrote the directory), faults in cfg.
//
// Without Bootstrap an empty directory waits for a leader to add this node.
func Open(cfg Config) (*Replica, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := newReplica(cfg)
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("open replica in %s: %w", cfg.Dir, err)
	}
	return r, nil
}

// open collects what must be undone in closers, newest last; on success they
// become the Replica's release.
func (r *Replica) open() (err error) {
	var closers []func() error
	r.release = func() error {
		var errs []error
		for _, c := range slices.Backward(closers) {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.release())
		}
	}()

	if err := os.MkdirAll(r.cfg.Dir, 0o700); err != nil {
		return err
	}
	lock, err := filelock.Acquire(filepath.Join(r.cfg.Dir, lockName))
	if err != nil {
		return err
	}
	closers = append(closers, lock.Close)

	logger := newBridge(r.log, "raft")
	snaps, newest, err := openSnapshots(r.cfg.Dir, logger)
	if err != nil {
		return err
	}
	store, stable, err := openStore(r.cfg, r.fail)
	if err != nil {
		return err
	}
	closers = append(closers, store.close)
	r.store = store
	store.stored = r.machine.ahead.note
	if err := store.verify(newest); err != nil {
		return err
	}

	layer, err := listenTCP(r.cfg.Listen, r.cfg.ID, r.belong, r.cfg.Dial, r.log)
	if err != nil {
		return err
	}
	r.trans = newTransport(layer, r.resolve(layer), newBridge(r.log, "raft-net"))
	closers = append(closers, r.trans.shut)

	cache, err := raft.NewLogCache(cacheEntries, haltingLog{store})
	if err != nil {
		return err
	}
	return r.start(raftConfig(r.cfg.ID, r.cfg.Single, logger), cache,
		haltingStable{stable, r.cfg.WriteFault, r.fail}, haltingSnapshots{snaps, r.cfg.WriteFault, r.fail}, r.trans)
}

// handshakeLevel is the feature level from which every member makes the
// handshake of the raft port.
const handshakeLevel = 2

// belong is what this node says of itself on the raft port, and asks of others.
func (r *Replica) belong() membership {
	m := membership{cluster: r.cfg.ClusterID, generation: r.cfg.Generation}
	r.Read(func(s *fsm.State) {
		m.generation = max(m.generation, s.Generation())
		m.empty = s.ClusterID() == ""
		m.legacy = s.FeatureLevel() < handshakeLevel
	})
	return m
}

// resolve answers for this node itself and asks Config.Resolve for the others.
func (r *Replica) resolve(layer *tcpLayer) func(string) (string, bool) {
	if r.cfg.Resolve == nil {
		return nil
	}
	return func(id string) (string, bool) {
		if id == r.cfg.ID {
			return layer.Addr().String(), true
		}
		return r.cfg.Resolve(id)
	}
}

// start bootstraps if asked to and runs raft. After an error nothing of it runs.
func (r *Replica) start(cfg *raft.Config, logs raft.LogStore, stable raft.StableStore, snaps raft.SnapshotStore, trans raft.Transport) error {
	if r.cfg.Bootstrap {
		self := raft.Configuration{Servers: []raft.Server{{ID: cfg.LocalID, Address: trans.LocalAddr()}}}
		err := raft.BootstrapCluster(cfg, logs, stable, snaps, trans, self)
		if errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("%w: a new cluster needs an empty directory; open this one without bootstrap", ErrNotEmpty)
		}
		if err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	var err error
	if r.raft, err = newRaft(cfg, r.machine, logs, stable, snaps, trans); err != nil {
		if failure := r.Err(); failure != nil {
			err = classify(failure)
		}
		return err
	}
	// raft falls back to an older snapshot without a word when the newest one
	// cannot be restored; the machine remembers.
	if failure := r.Err(); failure != nil {
		r.raft.Shutdown().Error()
		return classify(failure)
	}
	if servers, err := r.Servers(); err != nil || r.cfg.Single && len(servers) > 1 {
		r.raft.Shutdown().Error()
		if err == nil {
			err = fmt.Errorf("%w, but the directory belongs to one of %d servers", ErrSingle, len(servers))
		}
		return err
	}
	r.wg.Go(r.supervise)
	r.wg.Go(func() { r.machine.ahead.run(r.stop, r.failed) })
	r.wg.Go(r.scrubLoop)
	return nil
}

// newRaft is raft.NewRaft, which writes to the log's index before it starts
// anything; a damaged index panics there.
func newRaft(cfg *raft.Config, m raft.FSM, logs raft.LogStore, stable raft.StableStore, snaps raft.SnapshotStore, trans raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = damaged("the log's index takes no change: %v", p)
		}
	}()
	return raft.NewRaft(cfg, m, logs, stable, snaps, trans)
}

func classify(err error) error {
	if errors.Is(err, fsm.ErrDamagedSnapshot) {
		return damaged("newest snapshot: %w", err)
	}
	return err
}

// openStore opens the log under its checks.
func openStore(cfg Config, fail func(error)) (*checkedStore, raft.StableStore, error) {
	dir, log := cfg.Dir, cfg.Logger
	logDir, tailPath := filepath.Join(dir, logName), filepath.Join(dir, tailName)
	_, noLog := os.Stat(logDir)
	if _, err := os.Stat(tailPath); errors.Is(err, fs.ErrNotExist) && noLog == nil {
		return nil, nil, damaged("%s is missing beside the log", tailPath)
	}
	tail, err := openTail(tailPath)
	if err != nil {
		return nil, nil, damaged("%w", err)
	}
	if err := os.MkdirAll(logDir, 0o700); err != nil {
		return nil, nil, errors.Join(err, tail.close())
	}
	w, err := openWAL(logDir, newBridge(log, "raft-wal"))
	if err != nil {
		return nil, nil, errors.Join(err, tail.close())
	}
	return &checkedStore{wal: w, tail: tail, fail: fail, fault: cfg.WriteFault}, w, nil
}

// openWAL turns every refusal of the log to open, panics of its index file
// included, into an error.
func openWAL(dir string, logger hclog.Logger) (w *raftwal.WAL, err error) {
	meta := &metadb.BoltMetaDB{}
	defer func() {
		if p := recover(); p != nil {
			err = damaged("the log does not open: %v", p)
		}
		if err != nil {
			err = errors.Join(err, meta.Close())
		}
	}()
	if err = reopenTail(dir, meta); err == nil {
		w, err = raftwal.Open(dir, raftwal.WithSegmentSize(segmentSize), raftwal.WithLogger(logger), raftwal.WithMetaStore(meta))
	}
	return w, unopened(err)
}

// unopened says what it means that the log does not open. What the operating
// system refuses, such as room on the disk, is the administrator's to mend;
// anything else, and a file that is missing, is damage.
func unopened(err error) error {
	if err == nil || refused(err) && !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		return err
	}
	return damaged("the log does not open: %w", err)
}

// refused says whether the operating system gave the reason of an error.
func refused(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}

// openSnapshots opens the store and checks that the newest snapshot's bytes are
// those that were written. It returns its log index, 0 if there is none.
func openSnapshots(dir string, logger hclog.Logger) (raft.SnapshotStore, uint64, error) {
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, retain, logger)
	if err != nil {
		return nil, 0, fmt.Errorf("snapshots: %w", err)
	}
	names, err := snapshotNames(dir)
	if err != nil || len(names) == 0 {
		return store, 0, err
	}
	newest := names[len(names)-1]
	meta, r, err := store.Open(newest.name)
	if err != nil {
		return nil, 0, damaged("snapshot %s at index %d does not open: %w", newest.name, newest.index, err)
	}
	return store, meta.Index, r.Close()
}

// snapshotName is a snapshot folder's name, "term-index-milliseconds".
type snapshotName struct {
	name        string
	term, index uint64
}

// snapshotNames lists the complete snapshots of a data directory, oldest first.
// raft's own list leaves out those whose description it cannot read.
func snapshotNames(dir string) ([]snapshotName, error) {
	entries, err := os.ReadDir(filepath.Join(dir, snapshotsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	var out []snapshotName
	for _, e := range entries {
		parts := strings.Split(e.Name(), "-")
		if !e.IsDir() || len(parts) != 3 || strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		term, err1 := strconv.ParseUint(parts[0], 10, 64)
		index, err2 := strconv.ParseUint(parts[1], 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		out = append(out, snapshotName{name: e.Name(), term: term, index: index})
	}
	slices.SortFunc(out, func(a, b snapshotName) int {
		return cmp.Or(cmp.Compare(a.term, b.term), cmp.Compare(a.index, b.index), cmp.Compare(a.name, b.name))
	})
	return out, nil
}
