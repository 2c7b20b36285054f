package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// reopenTail mends what a kill between two steps of raft-wal leaves behind: the
// append that fills a segment seals it, and only after that does the index file
// name the next one. Opened in between, the log takes the sealed segment for its
// tail and refuses every append for good. All entries are there, so they are
// copied into a segment with room for more; the index file then names that one
// instead, at once, and the opening log deletes the old one. The index at the end
// of the sealed segment is not used: it may be torn.
//
// The log must be closed. It does nothing to a log whose tail takes appends.
func reopenTail(dir string, meta types.MetaStore) (err error) {
	state, err := meta.Load(dir)
	if err != nil || len(state.Segments) == 0 {
		return err
	}
	tail := &state.Segments[len(state.Segments)-1]
	if !tail.SealTime.IsZero() {
		return nil
	}
	files := segment.NewFiler(dir, walfs.New())
	old, err := files.RecoverTail(*tail)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a new segment's file comes after its name; the log creates it
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	if sealed, _, err := old.Sealed(); err != nil || !sealed {
		return err
	}

	var entries []types.LogEntry
	size := segmentSize
	for i := tail.MinIndex; i <= old.LastIndex(); i++ {
		raw, err := old.GetLog(i)
		if err != nil {
			return fmt.Errorf("log entry %d: %w", i, err)
		}
		entries = append(entries, types.LogEntry{Index: i, Data: append([]byte(nil), raw.Bs...)})
		size += len(raw.Bs)
		raw.Close()
	}
	*tail = types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: tail.MinIndex, MinIndex: tail.MinIndex,
		Codec: tail.Codec, CreateTime: time.Now(), SizeLimit: uint32(size),
	}
	state.NextSegmentID++
	// An attempt that was killed before the index file changed left such a file.
	if err := files.Delete(tail.BaseIndex, tail.ID); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	copied, err := files.Create(*tail)
	if err != nil {
		return err
	}
	err = copied.Append(entries)
	if err = errors.Join(err, copied.Close()); err != nil {
		return err
	}
	return meta.CommitState(state)
}
