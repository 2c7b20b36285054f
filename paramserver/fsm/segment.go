package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

// Caps of a job's archive manifest. A learner compacts long before them; a
// Commit that would exceed one is Rejected.
const (
	MaxSegments = 1 << 14 // listed
	MaxRanges   = 1 << 20 // of all listed segments together

	maxSegmentNodes = 16
)

// Segments returns the archive segments that a job lists, in the order of the
// Commits that listed them; nil for an unknown job. The slices within are
// shared with the state machine and must not be written to.
func (s *State) Segments(job string) []Segment {
	e, ok := s.jobs[job]
	if !ok {
		return nil
	}
	return slices.Clone(e.segments)
}

// check refuses what no segment can be, whatever the state.
func (g Segment) check() *Result {
	var rows uint64
	switch {
	case g.ID == "" || len(g.ID) > MaxID:
		return ptr(reject("segment id has %d bytes; want 1 to %d", len(g.ID), MaxID))
	case g.Bytes < 0 || g.Rows < 0:
		return ptr(reject("segment %q has %d bytes and %d rows; want 0 or more", g.ID, g.Bytes, g.Rows))
	case len(g.Nodes) > maxSegmentNodes:
		return ptr(reject("segment %q is on %d nodes; the cap is %d", g.ID, len(g.Nodes), maxSegmentNodes))
	}
	for _, n := range g.Nodes {
		if n == "" || len(n) > MaxID {
			return ptr(reject("segment %q: node has %d bytes; want 1 to %d", g.ID, len(n), MaxID))
		}
	}
	for i, r := range g.Ranges {
		if r.First == 0 || r.Last < r.First {
			return ptr(reject("segment %q: range %d to %d of session %q", g.ID, r.First, r.Last, r.Session))
		}
		if i > 0 && !before(g.Ranges[i-1], r) {
			return ptr(reject("segment %q: ranges out of order at session %q, %d", g.ID, r.Session, r.First))
		}
		rows += r.Last - r.First + 1
	}
	if uint64(g.Rows) > rows {
		return ptr(reject("segment %q has %d rows in ranges of %d", g.ID, g.Rows, rows))
	}
	return nil
}

// before says whether a ends before b begins, in the order of session and sequence.
func before(a, b Range) bool {
	return a.Session < b.Session || a.Session == b.Session && a.Last < b.First
}

func byStart(a, b Range) int {
	return cmp.Or(cmp.Compare(a.Session, b.Session), cmp.Compare(a.First, b.First))
}

// checkSegments holds the promise that a trajectory is archived once: a range
// lies within what the marks of the same Commit move over, so that no two
// listed segments ever overlap. The committed mark of a session is therefore
// also how far it is archived. The marks have been checked.
func (e *entry) checkSegments(segments []Segment, marks []Mark) *Result {
	if len(segments) == 0 {
		return nil
	}
	moved := make(map[string]Mark, len(marks))
	for _, m := range marks {
		moved[m.Session] = m
	}
	ids := make(map[string]bool, len(segments))
	var all []Range
	for _, g := range segments {
		if r := g.check(); r != nil {
			return r
		}
		if ids[g.ID] {
			return ptr(reject("two segments %q", g.ID))
		}
		ids[g.ID] = true
		for _, r := range g.Ranges {
			m, ok := moved[r.Session]
			if !ok || r.First <= e.sessions[r.Session].Mark || r.Last > m.Seq {
				return ptr(reject("segment %q covers %d to %d of session %q; the commit's mark moves from %d to %d",
					g.ID, r.First, r.Last, r.Session, e.sessions[r.Session].Mark, m.Seq))
			}
		}
		all = append(all, g.Ranges...)
	}
	slices.SortFunc(all, byStart)
	for i := 1; i < len(all); i++ {
		if !before(all[i-1], all[i]) {
			return ptr(reject("two segments cover trajectory %d of session %q", all[i].First, all[i].Session))
		}
	}
	for _, g := range e.segments {
		if ids[g.ID] {
			return ptr(reject("segment %q is listed already", g.ID))
		}
	}
	return e.checkManifest(len(segments), len(all))
}

func (e *entry) checkManifest(segments, ranges int) *Result {
	if len(e.segments)+segments > MaxSegments || e.ranges+ranges > MaxRanges {
		return ptr(reject("job %q lists %d segments with %d ranges; the caps are %d and %d: compact first",
			e.ID, len(e.segments), e.ranges, MaxSegments, MaxRanges))
	}
	return nil
}

// list adds a segment to the manifest.
func (e *entry) list(g Segment) {
	e.intern(g.Ranges)
	e.segments = append(e.segments, g)
	e.ranges += len(g.Ranges)
	e.Segments++
	e.ArchivedRows += g.Rows
}

// intern lets ranges share the text of the session that they name, instead of
// one copy each.
func (e *entry) intern(ranges []Range) {
	for i, r := range ranges {
		ranges[i].Session = e.sessions[r.Session].ID
	}
}

// compact replaces segments by one with the same rows of the same ranges.
func (e *entry) compact(c Compact) Result {
	if c.Generation != e.Generation || c.Epoch != e.Epoch || e.Learner == "" {
		return Result{Outcome: Fenced}
	}
	if r := c.Add.check(); r != nil {
		return *r
	}
	remove := make(map[string]bool, len(c.Remove))
	for _, id := range c.Remove {
		remove[id] = true
	}
	var rows int64
	var covered []Range
	found, listed := 0, false
	for _, g := range e.segments {
		if remove[g.ID] {
			found++
			rows += g.Rows
			covered = append(covered, g.Ranges...)
		} else if g.ID == c.Add.ID {
			listed = g.Hash == c.Add.Hash
			if !listed {
				return reject("segment %q is listed with another hash", g.ID)
			}
		}
	}
	switch {
	case listed && found == 0 && len(remove) > 0:
		return Result{Outcome: AlreadyApplied}
	case listed:
		return reject("segment %q is listed already", c.Add.ID)
	case len(remove) == 0 || len(remove) != len(c.Remove) || found != len(remove):
		return reject("%d of %d segments to remove are listed, or one is named twice", found, len(c.Remove))
	case c.Add.Rows != rows:
		return reject("segment %q has %d rows; those it replaces have %d", c.Add.ID, c.Add.Rows, rows)
	case !slices.Equal(joined(c.Add.Ranges), joined(covered)):
		return reject("segment %q does not cover what those it replaces do", c.Add.ID)
	}
	e.intern(c.Add.Ranges)
	kept := make([]Segment, 0, len(e.segments)-found+1)
	placed := false
	for _, g := range e.segments {
		switch {
		case !remove[g.ID]:
			kept = append(kept, g)
		case !placed: // in the place of the first, so that the order in time stays
			kept = append(kept, c.Add)
			placed = true
		}
	}
	e.segments = kept
	e.ranges += len(c.Add.Ranges) - len(covered)
	e.Segments = len(kept)
	return Result{Outcome: Applied}
}

// joined returns the ranges sorted, and those that adjoin as one.
func joined(ranges []Range) []Range {
	sorted := slices.SortedFunc(slices.Values(ranges), byStart)
	out := sorted[:0]
	for _, r := range sorted {
		if n := len(out); n > 0 && out[n-1].Session == r.Session && out[n-1].Last+1 == r.First {
			out[n-1].Last = r.Last
			continue
		}
		out = append(out, r)
	}
	return out
}

// restoreSegments takes a manifest out of a snapshot.
func (e *entry) restoreSegments(segments []Segment) error {
	ids := make(map[string]bool, len(segments))
	for _, g := range segments {
		if r := g.check(); r != nil {
			return fmt.Errorf("%s", r.Reason)
		}
		if ids[g.ID] {
			return fmt.Errorf("two segments %q", g.ID)
		}
		ids[g.ID] = true
		for _, r := range g.Ranges {
			if s, ok := e.sessions[r.Session]; !ok || r.Last > s.Mark {
				return fmt.Errorf("segment %q covers %d of session %q, marked %d", g.ID, r.Last, r.Session, s.Mark)
			}
		}
		if r := e.checkManifest(1, len(g.Ranges)); r != nil {
			return fmt.Errorf("%s", r.Reason)
		}
		e.list(g)
	}
	return nil
}
