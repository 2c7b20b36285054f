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
	"slices"

	"github.com/driftmesh/driftmesh/internal/piecewise"
)

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
	level, err := d.start()
	if err != nil {
		return nil, err
	}
	var h snapshotHeader
	if err := d.record(sectionHeader, &h); err != nil {
		return nil, err
	}
	s := New()
	s.cluster, s.created, s.index, s.chain = h.Cluster, h.Created, h.Index, h.Chain
	if level >= 2 {
		s.level, s.generation, s.term = level, h.Generation, h.Term
	} else if h.Generation != 0 || h.Term != 0 || h.Checkpoints != 0 || h.Events != 0 || h.Transfers != 0 {
		return nil, errors.New("format 1 with fields of format 2")
	}
	if err := d.jobs(s, h.Jobs, level); err != nil {
		return nil, err
	}
	if err := d.history(s, h.Checkpoints, h.Events); err != nil {
		return nil, err
	}
	if err := d.transfers(s, h.Transfers); err != nil {
		return nil, err
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

// start reads magic, format and feature level.
func (d *snapshotReader) start() (level uint8, err error) {
	start, err := d.read(uint64(len(snapshotMagic)) + 2)
	if err != nil {
		return 0, err
	}
	format, level := start[len(snapshotMagic)], start[len(snapshotMagic)+1]
	newest := uint8(formatLevel2)
	if Supported() < 2 {
		newest = formatLevel1
	}
	switch {
	case string(start[:len(snapshotMagic)]) != snapshotMagic:
		return 0, errors.New("not a snapshot")
	case format > newest || level > Supported():
		return 0, fmt.Errorf("%w: format %d, feature level %d; this build reads up to %d, %d",
			ErrNewerSnapshot, format, level, newest, Supported())
	case format == formatLevel1 != (level == 1) || format == 0 || level == 0:
		return 0, fmt.Errorf("format %d of feature level %d", format, level)
	}
	return level, nil
}

func (d *snapshotReader) jobs(s *State, n int, level uint8) error {
	if n < 0 || n > MaxJobs {
		return fmt.Errorf("%d jobs; the cap is %d", n, MaxJobs)
	}
	last := ""
	for range n {
		e, err := d.job(level)
		if err != nil {
			return err
		}
		if e.ID <= last {
			return fmt.Errorf("job %q after %q", e.ID, last)
		}
		s.jobs[e.ID], last = e, e.ID
	}
	return nil
}

func (d *snapshotReader) job(level uint8) (*entry, error) {
	var rec snapshotJob
	if err := d.record(sectionJob, &rec); err != nil {
		return nil, err
	}
	e := newEntry(rec.Job)
	e.best, e.recent, e.Weight, e.Priority = rec.Best, rec.Recent, rec.Weight, rec.Priority
	if level < 2 {
		if rec.Weight != 0 || rec.Priority != 0 || rec.Segments != 0 {
			return nil, fmt.Errorf("job %q: format 1 with fields of format 2", e.ID)
		}
		e.Weight = 1
	}
	if r := checkShare(e.Weight, e.Priority); r != nil {
		return nil, fmt.Errorf("job %q: %s", e.ID, r.Reason)
	}
	if err := d.blobs(e, rec.PrivateHash); err != nil {
		return nil, fmt.Errorf("job %q: %w", e.ID, err)
	}
	if len(e.recent) > recentCommits || len(e.best) > MaxBest || !slices.IsSortedFunc(e.best, betterFirst) {
		return nil, fmt.Errorf("job %q: tables out of bounds or order", e.ID)
	}
	if err := d.sessions(e, rec.Sessions); err != nil {
		return nil, fmt.Errorf("job %q: %w", e.ID, err)
	}
	if err := d.segments(e, rec.Segments); err != nil {
		return nil, fmt.Errorf("job %q: %w", e.ID, err)
	}
	return e, nil
}

func (d *snapshotReader) blobs(e *entry, privateHash Hash) error {
	for _, blob := range []struct {
		kind byte
		max  uint64
		into *[]byte
	}{
		{sectionSpec, MaxSpec, &e.Spec},
		{sectionParams, MaxState, &e.Params},
		{sectionPrivate, MaxState, &e.Private},
	} {
		b, err := d.section(blob.kind, blob.max)
		if err != nil {
			return err
		}
		*blob.into = b
	}
	if !e.HasState {
		if len(e.Params)+len(e.Private) > 0 {
			return errors.New("blobs without a state")
		}
		return nil
	}
	params, private := piecewise.Sum256(e.Params), piecewise.Sum256(e.Private)
	if params != e.ParamsHash || private != privateHash || stateHash(params, private) != e.StateHash {
		return errors.New("state does not match its hash")
	}
	e.privateHash = private
	return nil
}

func (d *snapshotReader) sessions(e *entry, want int) error {
	if want < 0 || want > MaxSessions {
		return fmt.Errorf("%d sessions; the cap is %d", want, MaxSessions)
	}
	last := ""
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
				e.open[s.ID] = struct{}{}
			}
			e.sessions[s.ID], last = s, s.ID
		}
	}
	if len(e.open) != e.Job.Sessions {
		return fmt.Errorf("%d open sessions, %d counted", len(e.open), e.Job.Sessions)
	}
	return nil
}

func (d *snapshotReader) segments(e *entry, want int) error {
	if want < 0 || want > MaxSegments {
		return fmt.Errorf("%d segments; the cap is %d", want, MaxSegments)
	}
	var all []Segment
	for len(all) < want {
		var chunk []Segment
		if err := d.record(sectionSegments, &chunk); err != nil {
			return err
		}
		if len(chunk) == 0 || len(chunk) > want-len(all) || len(chunk) != segmentsInOne(chunk) {
			return fmt.Errorf("a chunk of %d segments", len(chunk))
		}
		all = append(all, chunk...)
	}
	return e.restoreSegments(all)
}

// history reads checkpoints and events.
func (d *snapshotReader) history(s *State, checkpoints, events int) error {
	if checkpoints < 0 || checkpoints > maxCheckpoints || events < 0 || events > MaxEvents {
		return fmt.Errorf("%d checkpoints and %d events; the caps are %d and %d", checkpoints, events, maxCheckpoints, MaxEvents)
	}
	if checkpoints > 0 {
		if err := d.record(sectionCheckpoints, &s.checkpoints); err != nil {
			return err
		}
	}
	if len(s.checkpoints) != checkpoints {
		return fmt.Errorf("%d checkpoints, %d counted", len(s.checkpoints), checkpoints)
	}
	for i, c := range s.checkpoints {
		if c.Index > s.index || i > 0 && c.Index <= s.checkpoints[i-1].Index {
			return fmt.Errorf("checkpoint %d out of order", c.Index)
		}
	}
	var last uint64
	for len(s.events) < events {
		var chunk []Event
		if err := d.record(sectionEvents, &chunk); err != nil {
			return err
		}
		if len(chunk) != min(eventChunk, events-len(s.events)) {
			return fmt.Errorf("a chunk of %d events", len(chunk))
		}
		for _, ev := range chunk {
			if ev.Index < last || ev.Index > s.index || len(ev.Detail) > MaxDetail || len(ev.Kind) > maxKind {
				return fmt.Errorf("event at %d out of order or bounds", ev.Index)
			}
			last = ev.Index
		}
		s.events = append(s.events, chunk...)
	}
	return nil
}

// transfers reads the pending chunked commands.
func (d *snapshotReader) transfers(s *State, want int) error {
	if want < 0 || want > MaxTransfers {
		return fmt.Errorf("%d transfers; the cap is %d", want, MaxTransfers)
	}
	for range want {
		var rec snapshotTransfer
		if err := d.record(sectionTransfer, &rec); err != nil {
			return err
		}
		c := Chunk{Transfer: rec.ID, Parts: rec.Parts, Size: rec.Size}
		t := newTransfer(c)
		if rec.Have < 1 || rec.Seen > s.index || slices.ContainsFunc(s.pending, func(o transfer) bool { return o.id == t.id }) {
			return fmt.Errorf("transfer %x with %d parts, seen at %d", rec.ID[:4], rec.Have, rec.Seen)
		}
		for c.Part = range rec.Have {
			var err error
			if c.Data, err = d.section(sectionPart, MaxEntry); err != nil {
				return err
			}
			if r := c.check(); r != nil || c.Part == c.Parts-1 || t.have+int64(len(c.Data)) > t.size {
				return fmt.Errorf("transfer %x: part %d of %d out of bounds", rec.ID[:4], c.Part, c.Parts)
			}
			t.take(c.Data, rec.Seen)
		}
		s.pending = append(s.pending, t)
		if n := s.pendingBytes(); n > MaxPending {
			return fmt.Errorf("%d bytes of transfers; the cap is %d", n, int64(MaxPending))
		}
	}
	return nil
}

func (d *snapshotReader) record(kind byte, into any) error {
	body, err := d.section(kind, maxRecord)
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

// read takes n bytes in pieces, so that a declared length costs nothing and a
// large blob is copied once.
func (d *snapshotReader) read(n uint64) ([]byte, error) {
	const most = 1 << 20
	var pieces [][]byte
	for size := uint64(64 << 10); ; size = min(2*size, most) {
		piece := make([]byte, min(n, size))
		if _, err := io.ReadFull(d.r, piece); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		d.sum.Write(piece)
		n -= uint64(len(piece))
		if n == 0 && pieces == nil {
			return piece, nil
		}
		pieces = append(pieces, piece)
		if n == 0 {
			return bytes.Join(pieces, nil), nil
		}
	}
}
