package replica

import (
	"os"
	"path/filepath"
	"time"
)

// Stats are a replica's numbers, for a scrape.
type Stats struct {
	Term    uint64
	Commit  uint64 // log index known to be committed
	Applied uint64 // log index applied
	// LogBytes is the size of the log's files; a segment is allocated whole.
	LogBytes      int64
	SnapshotBytes int64     // of the newest snapshot, 0 if there is none
	SnapshotTime  time.Time // when it was written, zero if there is none
}

// Stats reads the present numbers. Of a replica that has stopped they are the
// last ones.
func (r *Replica) Stats() Stats {
	s := Stats{Term: r.raft.CurrentTerm(), Commit: r.raft.CommitIndex(), Applied: r.raft.AppliedIndex()}
	if r.cfg.Dir == "" {
		return s // in memory
	}
	s.LogBytes = folderSize(filepath.Join(r.cfg.Dir, logName))
	if names, err := snapshotNames(r.cfg.Dir); err == nil && len(names) > 0 {
		dir := filepath.Join(r.cfg.Dir, snapshotsName, names[len(names)-1].name)
		s.SnapshotBytes = folderSize(dir)
		if info, err := os.Stat(dir); err == nil {
			s.SnapshotTime = info.ModTime()
		}
	}
	return s
}

// folderSize adds up what is in a folder at this moment; files come and go.
func folderSize(dir string) (sum int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	return sum
}
