package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/driftmesh/driftmesh/internal/piecewise"
)

// A snapshot is the magic, the format version, the feature level that the
// cluster has activated, and then sections: kind (1 byte), length (8 bytes,
// little endian), body. A job is its record followed by its blobs, its
// sessions and, since format 2, its segments, both in chunks; after the jobs
// format 2 has the checkpoints, the events in chunks, and the pending
// transfers, each a record followed by its parts. The end section holds the
// SHA-256 of everything before it.
//
// Format 1 is what a cluster at level 1 writes, whatever the build, so that its
// servers may go back to the older release.
const (
	snapshotMagic = "DMFS"

	formatLevel1 = 1
	formatLevel2 = 2

	sectionHeader      = 1
	sectionJob         = 2
	sectionSpec        = 3
	sectionParams      = 4
	sectionPrivate     = 5
	sectionSessions    = 6
	sectionEnd         = 7
	sectionSegments    = 8 // since format 2
	sectionCheckpoints = 9
	sectionEvents      = 10
	sectionTransfer    = 11
	sectionPart        = 12

	sessionChunk = 4096 // sessions in a section
	eventChunk   = 512  // events in a section
	rangeChunk   = 4096 // a section of segments ends with the one that reaches as many ranges
	segmentChunk = 256  // or segments

	maxRecord = 48 << 20 // bytes of a section that is not a blob
)

var (
	// ErrNewerSnapshot says that a newer build wrote the snapshot; the replica
	// must stop.
	ErrNewerSnapshot = errors.New("snapshot of a newer build")
	// ErrDamagedSnapshot says that the bytes are not what was written.
	ErrDamagedSnapshot = errors.New("damaged snapshot")
)

type snapshotHeader struct {
	Cluster string `msgpack:"c"`
	Created int64  `msgpack:"t"`
	Index   uint64 `msgpack:"i"`
	Chain   Hash   `msgpack:"h"`
	Jobs    int    `msgpack:"n"`
	// Since format 2.
	Generation  uint64 `msgpack:"g,omitempty"`
	Term        uint64 `msgpack:"e,omitempty"`
	Checkpoints int    `msgpack:"k,omitempty"`
	Events      int    `msgpack:"v,omitempty"`
	Transfers   int    `msgpack:"x,omitempty"`
}

type snapshotJob struct {
	Job         Job      `msgpack:"j"`
	PrivateHash Hash     `msgpack:"p"`
	Best        []Object `msgpack:"b"`
	Recent      []Hash   `msgpack:"r"`
	Sessions    int      `msgpack:"n"` // tombstones included
	// Since format 2.
	Weight   float64 `msgpack:"w,omitempty"`
	Priority int     `msgpack:"o,omitempty"`
	Segments int     `msgpack:"g,omitempty"`
}

type snapshotTransfer struct {
	ID    Hash   `msgpack:"i"`
	Parts int    `msgpack:"n"` // declared
	Size  int64  `msgpack:"s"` // declared
	Seen  uint64 `msgpack:"l"`
	Have  int    `msgpack:"h"` // parts that follow
}

// Encode writes the view in the one canonical form: equal states have equal bytes.
func (v *View) Encode(w io.Writer) error {
	enc := &snapshotWriter{w: w, sum: sha256.New(), level: v.state.FeatureLevel()}
	enc.state(v.state)
	if enc.err != nil {
		return fmt.Errorf("write snapshot: %w", enc.err)
	}
	return nil
}

// snapshotWriter keeps the first error, so that state reads straight down.
type snapshotWriter struct {
	w     io.Writer
	sum   hash.Hash
	level uint8
	err   error
}

func (e *snapshotWriter) state(s *State) {
	format := byte(formatLevel2)
	header := snapshotHeader{Cluster: s.cluster, Created: s.created, Index: s.index, Chain: s.chain, Jobs: len(s.jobs)}
	if e.level < 2 {
		format = formatLevel1
	} else {
		header.Generation, header.Term = s.generation, s.term
		header.Checkpoints, header.Events, header.Transfers = len(s.checkpoints), len(s.events), len(s.pending)
	}
	e.write([]byte(snapshotMagic))
	e.write([]byte{format, e.level})
	e.record(sectionHeader, header)
	for _, id := range slices.Sorted(maps.Keys(s.jobs)) {
		e.job(s.jobs[id])
	}
	if e.level >= 2 {
		if len(s.checkpoints) > 0 {
			e.record(sectionCheckpoints, s.checkpoints)
		}
		for chunk := range slices.Chunk(s.events, eventChunk) {
			e.record(sectionEvents, chunk)
		}
		for _, t := range s.pending {
			e.transfer(t)
		}
	}
	e.section(sectionEnd, e.sum.Sum(nil))
}

func (e *snapshotWriter) write(b []byte) {
	if e.err != nil {
		return
	}
	piecewise.Write(e.sum, b) // a hash never fails
	_, e.err = piecewise.Write(e.w, b)
}

func (e *snapshotWriter) section(kind byte, body []byte) {
	e.write(binary.LittleEndian.AppendUint64([]byte{kind}, uint64(len(body))))
	e.write(body)
}

func (e *snapshotWriter) record(kind byte, v any) {
	var buf bytes.Buffer
	if err := encodeBody(&buf, v); err != nil && e.err == nil {
		e.err = err
	}
	e.section(kind, buf.Bytes())
}

func (e *snapshotWriter) job(j *entry) {
	rec := snapshotJob{
		Job: j.Job, PrivateHash: j.privateHash, Best: j.best, Recent: j.recent, Sessions: len(j.sessions),
	}
	if e.level >= 2 {
		rec.Weight, rec.Priority, rec.Segments = j.Weight, j.Priority, len(j.segments)
	}
	e.record(sectionJob, rec)
	e.section(sectionSpec, j.Spec)
	e.section(sectionParams, j.Params)
	e.section(sectionPrivate, j.Private)
	for chunk := range slices.Chunk(j.sortedSessions(), sessionChunk) {
		e.record(sectionSessions, chunk)
	}
	for rest := j.segments; len(rest) > 0; {
		n := segmentsInOne(rest)
		e.record(sectionSegments, rest[:n])
		rest = rest[n:]
	}
}

// segmentsInOne is how many segments the next section takes, at least one.
func segmentsInOne(segments []Segment) int {
	ranges := 0
	for i, g := range segments {
		ranges += len(g.Ranges)
		if ranges >= rangeChunk || i+1 == segmentChunk {
			return i + 1
		}
	}
	return len(segments)
}

func (e *snapshotWriter) transfer(t transfer) {
	e.record(sectionTransfer, snapshotTransfer{ID: t.id, Parts: t.parts, Size: t.size, Seen: t.seen, Have: len(t.data)})
	for _, part := range t.data {
		e.section(sectionPart, part)
	}
}
