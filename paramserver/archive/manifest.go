package archive

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// Manifest is what a job lists, from one state.
type Manifest struct {
	Job        string
	Generation uint64
	Version    uint64 // committed
	Rows       int64
	Spec       []byte // of the job, JSON
	Segments   []fsm.Segment
}

// ManifestOf returns what a job of a state lists.
func ManifestOf(s *fsm.State, j *fsm.Job) Manifest {
	return Manifest{Job: j.ID, Generation: j.Generation, Version: j.Version, Rows: j.ArchivedRows, Spec: j.Spec, Segments: s.Segments(j.ID)}
}

// send cuts a manifest into messages.
func (m *Manifest) send(to func(*wire.ManifestReply) error) error {
	out := &wire.ManifestReply{Generation: m.Generation, Version: m.Version, Count: len(m.Segments), Rows: m.Rows, Spec: m.Spec}
	if err := to(out); err != nil {
		return err
	}
	out = &wire.ManifestReply{}
	index, ranges := map[string]int{}, 0
	flush := func() error {
		if len(out.Segments) == 0 {
			return nil
		}
		err := to(out)
		out, index, ranges = &wire.ManifestReply{}, map[string]int{}, 0
		return err
	}
	for _, g := range m.Segments {
		if len(out.Segments) == wire.MaxListed || ranges+len(g.Ranges) > wire.MaxRangesPart {
			if err := flush(); err != nil {
				return err
			}
		}
		info := wire.SegmentInfo{ID: g.ID, Hash: g.Hash[:], Bytes: g.Bytes, Rows: g.Rows, Nodes: g.Nodes}
		for _, r := range g.Ranges {
			at, ok := index[r.Session]
			if !ok {
				at = len(out.Sessions)
				index[r.Session] = at
				out.Sessions = append(out.Sessions, r.Session)
			}
			info.Ranges = append(info.Ranges, wire.RangeInfo{Session: at, First: r.First, Last: r.Last})
		}
		ranges += len(g.Ranges)
		out.Segments = append(out.Segments, info)
	}
	return flush()
}

// ErrManifest means that a manifest did not arrive as it was announced.
var ErrManifest = fmt.Errorf("%w: archive manifest", wire.ErrFrame)

// Take adds a part that arrived; Whole says at the end whether all did.
func (m *Manifest) Take(p *wire.ManifestReply) error {
	if m.Segments == nil {
		if p.Count < 0 || p.Count > fsm.MaxSegments {
			return fmt.Errorf("%w: %d segments, the cap is %d", ErrManifest, p.Count, fsm.MaxSegments)
		}
		m.Generation, m.Version, m.Rows, m.Spec = p.Generation, p.Version, p.Rows, p.Spec
		m.Segments = make([]fsm.Segment, 0, p.Count)
	}
	if len(m.Segments)+len(p.Segments) > cap(m.Segments) {
		return fmt.Errorf("%w: more than %d segments", ErrManifest, cap(m.Segments))
	}
	for _, s := range p.Segments {
		g := fsm.Segment{ID: s.ID, Hash: fsm.Hash(s.Hash), Bytes: s.Bytes, Rows: s.Rows, Nodes: s.Nodes, Ranges: make([]fsm.Range, len(s.Ranges))}
		for i, r := range s.Ranges {
			g.Ranges[i] = fsm.Range{Session: p.Sessions[r.Session], First: r.First, Last: r.Last}
		}
		m.Segments = append(m.Segments, g)
	}
	return nil
}

// Whole refuses a manifest of which parts are missing.
func (m *Manifest) Whole() error {
	rows := int64(0)
	for i := range m.Segments {
		rows += m.Segments[i].Rows
	}
	if m.Segments == nil || len(m.Segments) != cap(m.Segments) || rows != m.Rows {
		return fmt.Errorf("%w: %d of %d segments with %d of %d rows", ErrManifest, len(m.Segments), cap(m.Segments), rows, m.Rows)
	}
	return nil
}
