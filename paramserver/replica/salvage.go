package replica

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/driftmesh/driftmesh/internal/filelock"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

var discard = slog.New(slog.DiscardHandler)

// Salvaged is what Salvage found in a data directory.
type Salvaged struct {
	State    *fsm.State
	Snapshot uint64 // log index of the snapshot that it began from, 0 for none
	Last     uint64 // log index that it was replayed through
	// Damage says why the replay ended there, nil if everything that this server
	// acknowledged is in State. It wraps ErrDamaged.
	Damage error
}

// Salvage reads the state of a data directory that no process uses: its newest
// snapshot, and after it the whole log. Which entries at the log's end were
// committed only a quorum could tell, so all are taken. The directory is not
// changed: the log is opened in a copy below scratch.
//
// Damage is no error as long as a state can be told. Errors are a directory in
// use, one without a history, and what a newer build wrote.
func Salvage(dir, scratch string) (out *Salvaged, err error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, errors.Join(err, fmt.Errorf("salvage %s: not the folder of a log and snapshots", dir))
	}
	lock, err := filelock.Acquire(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("salvage %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	out = &Salvaged{State: fsm.New()}
	newest, err := out.newestSnapshot(dir)
	if err != nil {
		return nil, fmt.Errorf("salvage %s: %w", dir, err)
	}
	copied, err := copyLog(dir, scratch)
	if err == nil {
		defer func() { err = errors.Join(err, os.RemoveAll(copied)) }()
		err = out.replay(copied)
	}
	switch {
	case errors.Is(err, ErrDamaged):
		out.Damage, err = errors.Join(out.Damage, err), nil
	case err == nil && out.Last >= newest:
		out.Damage = nil // the log has what a damaged snapshot had
	}
	if err != nil {
		return nil, fmt.Errorf("salvage %s: %w", dir, err)
	}
	if out.State.ClusterID() == "" {
		return nil, errors.Join(out.Damage, fmt.Errorf("salvage %s: there is no state in it", dir))
	}
	return out, nil
}

// newestSnapshot reads the newest snapshot that is whole, and returns the index
// of the newest one, whole or not.
func (s *Salvaged) newestSnapshot(dir string) (newest uint64, err error) {
	names, err := snapshotNames(dir)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	newest = names[len(names)-1].index
	for _, name := range slices.Backward(names) {
		state, err := readSnapshot(filepath.Join(dir, snapshotsName, name.name, "state.bin"))
		if err == nil {
			s.State, s.Snapshot, s.Last = state, name.index, name.index
			return newest, nil
		}
		if errors.Is(err, fsm.ErrNewerSnapshot) {
			return 0, err
		}
		s.Damage = errors.Join(s.Damage, damaged("snapshot %s at index %d: %w", name.name, name.index, err))
	}
	return newest, nil
}

// readSnapshot reads raft's file of a snapshot by itself: opening it as raft does
// would write to the folder, and the state has a checksum of its own.
func readSnapshot(path string) (*fsm.State, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return fsm.DecodeSnapshot(bufio.NewReaderSize(f, 1<<16))
}

// copyLog copies the log and the record of its end into a new folder.
func copyLog(dir, scratch string) (copied string, err error) {
	copied, err = os.MkdirTemp(scratch, "log-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(copied))
		}
	}()
	if err := copyFile(filepath.Join(copied, tailName), filepath.Join(dir, tailName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	entries, err := os.ReadDir(filepath.Join(dir, logName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := os.Mkdir(filepath.Join(copied, logName), 0o700); err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			if err := copyFile(filepath.Join(copied, logName, e.Name()), filepath.Join(dir, logName, e.Name())); err != nil {
				return "", err
			}
		}
	}
	return copied, nil
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// replay applies the log after the snapshot. It ends with ErrDamaged where the
// log is not what was acknowledged; the state is good up to there.
func (s *Salvaged) replay(dir string) (err error) {
	store, _, err := openStore(Config{Dir: dir, Logger: discard}, func(error) {})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	first, last, err := store.bounds()
	if err != nil {
		return damaged("the log's bounds: %w", err)
	}
	if last > s.Last && first > s.Last+1 {
		return damaged("the log begins at entry %d, the state ends at %d", first, s.Last)
	}
	var l raft.Log
	for i := s.Last + 1; i <= last; i++ {
		if err := store.read(i, &l); errors.Is(err, raft.ErrLogNotFound) {
			return damaged("log entry %d is missing", i)
		} else if err != nil {
			return err
		}
		if l.Type == raft.LogCommand {
			if _, err := s.State.Apply(l.Index, l.Term, l.Data); err != nil {
				return fmt.Errorf("log entry %d: %w", i, err)
			}
		}
		s.Last = i
	}
	if rec := store.tail.rec; s.Last < rec.last {
		return damaged("the log ends at entry %d, but entries through %d were acknowledged", s.Last, rec.last)
	}
	return nil
}
