package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// ErrDamaged says that the data directory does not hold what was acknowledged.
// The process must exit. The node may only return with an empty directory and
// a new identity: a voter that forgot its log can lose committed entries.
var ErrDamaged = errors.New("damaged data directory")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w; remove this node from the cluster and let it join again with an empty directory and a new ID, "+
		"or restore the directory from a backup if it was the only server", ErrDamaged, fmt.Errorf(format, args...))
}

// wal is what checkedStore needs of the log below it.
type wal interface {
	raft.LogStore
	Close() error
}

// checkedStore is a raft.LogStore that trusts its disk with nothing: every
// entry carries a CRC32C that each read checks, and a second file remembers
// where the log ended. raft-wal does neither: it takes a damaged end for a torn
// write and drops it.
type checkedStore struct {
	wal  wal
	fail func(error) // told once of every error after which the node must stop
	// fault injects errors before writes; see Config.WriteFault.
	fault func(what string) error
	// stored is told of every command before it is written; nil: nobody is.
	stored func(command []byte)

	mu   sync.Mutex // one writer at a time: log and tail move together
	tail *tailFile
	err  error // the first write error; no write may succeed after it
}

var (
	_ raft.LogStore          = (*checkedStore)(nil)
	_ raft.MonotonicLogStore = (*checkedStore)(nil)
)

// IsMonotonic says that indices have no gaps, so that raft empties the log
// after it installed a snapshot.
func (s *checkedStore) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (s *checkedStore) FirstIndex() (uint64, error) { return s.wal.FirstIndex() }

// LastIndex implements raft.LogStore.
func (s *checkedStore) LastIndex() (uint64, error) { return s.wal.LastIndex() }

// GetLog reads an entry and checks it. A damaged entry stops the node.
func (s *checkedStore) GetLog(index uint64, log *raft.Log) error {
	err := s.read(index, log)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		s.fail(err)
	}
	return err
}

func (s *checkedStore) read(index uint64, log *raft.Log) error {
	if err := s.wal.GetLog(index, log); errors.Is(err, raft.ErrLogNotFound) {
		return err
	} else if err != nil {
		return damaged("log entry %d: %w", index, err)
	}
	n := len(log.Extensions) - 4
	if n < 0 {
		return damaged("log entry %d has no checksum", index)
	}
	want := binary.LittleEndian.Uint32(log.Extensions[n:])
	log.Extensions = log.Extensions[:n:n]
	if n == 0 {
		log.Extensions = nil
	}
	if got := checksum(log); got != want || log.Index != index {
		return damaged("log entry %d has checksum %08x, stored %08x", index, got, want)
	}
	return nil
}

// checksum covers everything that matters of an entry; its index too, so that
// an intact entry at the wrong place is found.
func checksum(l *raft.Log) uint32 {
	var head [25]byte
	binary.LittleEndian.PutUint64(head[0:], l.Index)
	binary.LittleEndian.PutUint64(head[8:], l.Term)
	binary.LittleEndian.PutUint64(head[16:], uint64(len(l.Data)))
	head[24] = byte(l.Type)
	sum := crc32.Update(0, castagnoli, head[:])
	sum = crc32.Update(sum, castagnoli, l.Data)
	return crc32.Update(sum, castagnoli, l.Extensions)
}

// StoreLog implements raft.LogStore.
func (s *checkedStore) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs appends entries; they and their place are durable when it returns.
// The checksum travels at the end of the stored copy's Extensions.
func (s *checkedStore) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	framed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		if s.stored != nil && l.Type == raft.LogCommand {
			s.stored(l.Data)
		}
		c := *l
		c.Extensions = binary.LittleEndian.AppendUint32(slices.Clip(l.Extensions), checksum(l))
		framed[i] = &c
	}
	last := logs[len(logs)-1]
	return s.write(func() error {
		if err := s.wal.StoreLogs(framed); err != nil {
			return fmt.Errorf("store log entries %d to %d: %w", logs[0].Index, last.Index, err)
		}
		rec := s.tail.rec
		rec.last, rec.term = last.Index, last.Term
		return s.tail.write(rec)
	})
}

// DeleteRange removes the head or the end of the log. The record goes first
// where it shrinks: a log longer than its record is only a crash in between.
func (s *checkedStore) DeleteRange(low, high uint64) error {
	return s.write(func() error {
		rec, deletes, err := s.recordWithout(low, high)
		if err != nil || !deletes {
			return err
		}
		if err := s.tail.write(rec); err != nil {
			return err
		}
		if err := s.wal.DeleteRange(low, high); err != nil {
			return fmt.Errorf("delete log entries %d to %d: %w", low, high, err)
		}
		return nil
	})
}

// recordWithout is the record after a deletion, and whether that deletes anything.
func (s *checkedStore) recordWithout(low, high uint64) (rec tailRecord, deletes bool, err error) {
	rec = s.tail.rec
	first, last, err := s.bounds()
	if err != nil {
		return rec, false, err
	}
	switch {
	case last == 0 || high < first || low > last:
		return rec, false, nil
	case low <= first && high >= last:
		// raft installed a snapshot. Its index is not known here, and the
		// log may even have gone beyond it; but there must be one.
		rec.last, rec.term, rec.removed = 0, 0, max(rec.removed, first-1, 1)
	case low <= first:
		rec.removed = max(rec.removed, high)
	case high >= last:
		var l raft.Log
		if err := s.read(low-1, &l); err != nil {
			return rec, false, err
		}
		rec.last, rec.term = l.Index, l.Term
	}
	return rec, true, nil
}

// bounds returns the first and the last index, both 0 while the log is empty.
func (s *checkedStore) bounds() (first, last uint64, err error) {
	if first, err = s.wal.FirstIndex(); err == nil {
		last, err = s.wal.LastIndex()
	}
	return first, last, err
}

// write runs a change of log and record. After an error nothing more is
// written: what a failed fsync left on disk is not known.
func (s *checkedStore) write(change func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		if s.fault != nil {
			s.err = s.fault(FaultLog)
		}
		if s.err == nil {
			s.err = change()
		}
		if s.err != nil {
			s.fail(fmt.Errorf("log storage: %w", s.err))
		}
	}
	return s.err
}

// verify reads the whole log once and compares it with the record and with the
// index of the newest snapshot (0 for none). It also finishes what a crash may
// have cut short: a log that ends before the snapshot is empty for raft, and
// must be so on disk, as the next entry would leave a gap.
func (s *checkedStore) verify(snapshot uint64) error {
	first, last, err := s.bounds()
	if err != nil {
		return err
	}
	rec := s.tail.rec
	if last < rec.last {
		return damaged("the log ends at entry %d, but entries through %d were acknowledged", last, rec.last)
	}
	if need := max(rec.removed, max(first, 1)-1); snapshot < need {
		return damaged("the log begins after entry %d, but the newest snapshot covers only %d", need, snapshot)
	}
	var l raft.Log
	for i := first; i <= last && last > 0; i++ {
		if err := s.read(i, &l); errors.Is(err, raft.ErrLogNotFound) {
			return damaged("log entry %d is missing", i)
		} else if err != nil {
			return err
		}
		if i == rec.last && l.Term != rec.term {
			return damaged("log entry %d has term %d, stored %d", i, l.Term, rec.term)
		}
	}
	if last > 0 && last < snapshot {
		return s.DeleteRange(first, last)
	}
	return nil
}

func (s *checkedStore) close() error {
	return errors.Join(s.wal.Close(), s.tail.close())
}
