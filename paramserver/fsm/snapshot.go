package fsm

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
)

// A snapshot is the magic, the format version, the feature level, and then
// sections: kind (1 byte), length (8 bytes, little endian), body. A job is its
// record followed by its blobs and its sessions in chunks. The end section
// holds the SHA-256 of everything before it.
const (
	snapshotMagic = "DMFS"

	sectionHeader   = 1
	sectionJob      = 2
	sectionSpec     = 3
	sectionParams   = 4
	sectionPrivate  = 5
	sectionSessions = 6
	sectionEnd      = 7

	sessionChunk = 4096
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
}

type snapshotJob struct {
	Job         Job      `msgpack:"j"`
	PrivateHash Hash     `msgpack:"p"`
	Best        []Object `msgpack:"b"`
	Recent      []Hash   `msgpack:"r"`
	Sessions    int      `msgpack:"n"` // tombstones included
}

// Encode writes the view in the one canonical form: equal states have equal bytes.
func (v *View) Encode(w io.Writer) error {
	enc := &snapshotWriter{w: w, sum: sha256.New()}
	enc.write([]byte(snapshotMagic))
	enc.write([]byte{FormatVersion, FeatureLevel})
	s := v.state
	enc.record(sectionHeader, snapshotHeader{
		Cluster: s.cluster, Created: s.created, Index: s.index, Chain: s.chain, Jobs: len(s.jobs),
	})
	for _, id := range slices.Sorted(maps.Keys(s.jobs)) {
		enc.job(s.jobs[id])
	}
	enc.section(sectionEnd, enc.sum.Sum(nil))
	if enc.err != nil {
		return fmt.Errorf("write snapshot: %w", enc.err)
	}
	return nil
}

// snapshotWriter keeps the first error, so that Encode reads straight down.
type snapshotWriter struct {
	w   io.Writer
	sum hash.Hash
	err error
}

func (e *snapshotWriter) write(b []byte) {
	if e.err != nil {
		return
	}
	e.sum.Write(b)
	_, e.err = e.w.Write(b)
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
	e.record(sectionJob, snapshotJob{
		Job: j.Job, PrivateHash: sha256.Sum256(j.Private), Best: j.best, Recent: j.recent, Sessions: len(j.sessions),
	})
	e.section(sectionSpec, j.Spec)
	e.section(sectionParams, j.Params)
	e.section(sectionPrivate, j.Private)
	for chunk := range slices.Chunk(j.sortedSessions(), sessionChunk) {
		e.record(sectionSessions, chunk)
	}
}

// DecodeSnapshot reads and verifies what Encode wrote: the digest of the whole,
// the digests of every job's blobs, and the order of its tables. Memory grows
// with the bytes that really arrive, never with a declared length. It fails
// with ErrNewerSnapshot or ErrDamagedSnapshot.
func DecodeSnapshot(r io.Reader) (*State, error) {
	d := &snapshotReader{r: r, sum: sha256.New()}
	s, err := d.state()
	if err != nil && !errors.Is(err, ErrNewerSnapshot) {
		return nil, fmt.Errorf("%w: %w", ErrDamagedSnapshot, err)
	}
	return s, err
}

type snapshotReader struct {
	r   io.Reader
	sum hash.Hash
}

func (d *snapshotReader) state() (*State, error) {
	start, err := d.read(uint64(len(snapshotMagic)) + 2)
	if err != nil {
		return nil, err
	}
	format, level := start[len(snapshotMagic)], start[len(snapshotMagic)+1]
	switch {
	case string(start[:len(snapshotMagic)]) != snapshotMagic:
		return nil, errors.New("not a snapshot")
	case format > FormatVersion || level > FeatureLevel:
		return nil, fmt.Errorf("%w: format %d, feature level %d; this build reads up to %d, %d",
			ErrNewerSnapshot, format, level, FormatVersion, FeatureLevel)
	}
	var h snapshotHeader
	if err := d.record(sectionHeader, &h); err != nil {
		return nil, err
	}
	s := New()
	s.cluster, s.created, s.index, s.chain = h.Cluster, h.Created, h.Index, h.Chain
	if h.Jobs < 0 || h.Jobs > MaxJobs {
		return nil, fmt.Errorf("%d jobs; the cap is %d", h.Jobs, MaxJobs)
	}
	last := ""
	for range h.Jobs {
		e, err := d.job()
		if err != nil {
			return nil, err
		}
		if e.ID <= last {
			return nil, fmt.Errorf("job %q after %q", e.ID, last)
		}
		s.jobs[e.ID], last = e, e.ID
	}
	want := d.sum.Sum(nil)
	got, err := d.section(sectionEnd, sha256.Size)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, want) {
		return nil, errors.New("checksum does not match")
	}
	return s, nil
}

func (d *snapshotReader) job() (*entry, error) {
	var rec snapshotJob
	if err := d.record(sectionJob, &rec); err != nil {
		return nil, err
	}
	e := &entry{Job: rec.Job, best: rec.Best, recent: rec.Recent, sessions: map[string]Session{}}
	for _, blob := range []struct {
		kind byte
		max  uint64
		into *[]byte
	}{
		{sectionSpec, MaxSpec, &e.Spec},
		{sectionParams, MaxCommand, &e.Params},
		{sectionPrivate, MaxCommand, &e.Private},
	} {
		b, err := d.section(blob.kind, blob.max)
		if err != nil {
			return nil, fmt.Errorf("job %q: %w", e.ID, err)
		}
		*blob.into = b
	}
	if !e.HasState && len(e.Params)+len(e.Private) > 0 {
		return nil, fmt.Errorf("job %q: blobs without a state", e.ID)
	}
	if e.HasState {
		params, private := sha256.Sum256(e.Params), sha256.Sum256(e.Private)
		if params != e.ParamsHash || private != rec.PrivateHash || stateHash(params, private) != e.StateHash {
			return nil, fmt.Errorf("job %q: state does not match its hash", e.ID)
		}
	}
	if len(e.recent) > recentCommits || len(e.best) > MaxBest || !slices.IsSortedFunc(e.best, betterFirst) {
		return nil, fmt.Errorf("job %q: tables out of bounds or order", e.ID)
	}
	if err := d.sessions(e, rec.Sessions); err != nil {
		return nil, fmt.Errorf("job %q: %w", e.ID, err)
	}
	return e, nil
}

func (d *snapshotReader) sessions(e *entry, want int) error {
	if want < 0 || want > MaxSessions {
		return fmt.Errorf("%d sessions; the cap is %d", want, MaxSessions)
	}
	last, open := "", 0
	for len(e.sessions) < want {
		var chunk []Session
		if err := d.record(sectionSessions, &chunk); err != nil {
			return err
		}
		if len(chunk) != min(sessionChunk, want-len(e.sessions)) {
			return fmt.Errorf("a chunk of %d sessions", len(chunk))
		}
		for _, s := range chunk {
			if cmp.Compare(s.ID, last) <= 0 {
				return fmt.Errorf("session %q after %q", s.ID, last)
			}
			if !s.Expired {
				open++
			}
			e.sessions[s.ID], last = s, s.ID
		}
	}
	if open != e.Job.Sessions {
		return fmt.Errorf("%d open sessions, %d counted", open, e.Job.Sessions)
	}
	return nil
}

func (d *snapshotReader) record(kind byte, into any) error {
	body, err := d.section(kind, MaxCommand)
	if err != nil {
		return err
	}
	return decodeBody(body, into)
}

// section reads one section of the given kind and of at most limit bytes.
func (d *snapshotReader) section(kind byte, limit uint64) ([]byte, error) {
	head, err := d.read(9)
	if err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(head[1:])
	switch {
	case head[0] != kind:
		return nil, fmt.Errorf("section %d where %d belongs", head[0], kind)
	case n > limit:
		return nil, fmt.Errorf("section %d of %d bytes; the cap is %d", kind, n, limit)
	}
	return d.read(n)
}

func (d *snapshotReader) read(n uint64) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(int(min(n, 64<<10)))
	if _, err := io.CopyN(&buf, d.r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	d.sum.Write(buf.Bytes())
	return buf.Bytes(), nil
}
