// Package journal keeps what a process saw, for whoever checks it afterwards:
// one JSON line per fact, in a file that is only ever appended to and that a
// kill of the process leaves readable up to its last moment.
package journal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Kinds of entries.
const (
	Started   = "started"   // the process opened the journal
	Opened    = "opened"    // a worker's session was opened; Last is its mark
	Sampled   = "sampled"   // trajectories First to Last, with Version; Digest of their frame
	Marked    = "marked"    // a committed mark reached the worker: Last
	Adopted   = "adopted"   // parameters of (Generation, Version) are sampled with
	Proposed  = "proposed"  // a learner proposed a commit of Version
	Committed = "committed" // and knows that it is committed
	Ended     = "ended"     // the learner's run ended, Detail says why
)

// Entry is one fact.
type Entry struct {
	Time       int64  `json:"t"` // Unix nanoseconds of this machine's clock
	Kind       string `json:"k"`
	Job        string `json:"job,omitempty"`
	Node       string `json:"node,omitempty"`
	Slot       int    `json:"slot,omitempty"`
	Session    string `json:"session,omitempty"`
	First      uint64 `json:"first,omitempty"` // sequence numbers
	Last       uint64 `json:"last,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	Epoch      uint64 `json:"epoch,omitempty"`
	Version    uint64 `json:"version,omitempty"`
	Digest     string `json:"digest,omitempty"` // hex
	Detail     string `json:"detail,omitempty"`
}

// Journal appends entries. It is safe for concurrent use; a nil *Journal keeps
// nothing.
type Journal struct {
	mu   sync.Mutex
	file *os.File
	err  error // the first failure
}

// Open opens the journal at path, which "" makes nil, and says so in it.
func Open(path string) (*Journal, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{file: f}
	j.Write(Entry{Kind: Started})
	return j, nil
}

// Write appends an entry, at the present time. A failure shows in Close.
func (j *Journal) Write(e Entry) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Time = time.Now().UnixNano()
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.file.Write(append(line, '\n')) // one call: a line is whole or missing
	}
	if j.err == nil {
		j.err = err
	}
}

// Close closes the file and returns the first error there was.
func (j *Journal) Close() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := errors.Join(j.err, j.file.Close()); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// Read parses whole lines from r, from wherever it stands, and returns how many
// bytes they take. A last line without an end is left for the next time.
func Read(r io.Reader) (entries []Entry, size int64, err error) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return entries, size, nil
		}
		if err != nil {
			return entries, size, fmt.Errorf("journal: %w", err)
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return entries, size, fmt.Errorf("journal: byte %d: %w", size, err)
		}
		entries = append(entries, e)
		size += int64(len(line))
	}
}
