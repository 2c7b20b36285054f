package archive

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// Source is where a reader gets a job's archive from.
type Source interface {
	// Manifest returns what is listed now.
	Manifest(ctx context.Context) (*Manifest, error)
	// Fetch returns the content of a listed segment, its hash compared.
	Fetch(ctx context.Context, g *fsm.Segment) ([]byte, error)
}

// Walk calls f with every row that is listed when it begins, once each and in the
// order of the commits, whatever is merged meanwhile. begin, when set, is told
// first what there is.
func Walk(ctx context.Context, src Source, begin func(*Manifest), f func(*Row) error) error {
	m, err := src.Manifest(ctx)
	if err != nil {
		return err
	}
	if begin != nil {
		begin(m)
	}
	wanted, done := cover{}, cover{}
	for _, g := range m.Segments {
		wanted.add(g.Ranges)
	}
	for {
		gone, err := walk(ctx, src, m, wanted, done, f)
		if err == nil || gone == "" {
			return err
		}
		now, again := src.Manifest(ctx)
		if again != nil {
			return fmt.Errorf("%w; and the manifest: %w", err, again)
		}
		if slices.ContainsFunc(now.Segments, func(g fsm.Segment) bool { return g.ID == gone }) {
			return err // it is still listed, and nobody has it
		}
		m = now
	}
}

// walk reads what is wanted and not done. gone is the segment that could not be
// had.
func walk(ctx context.Context, src Source, m *Manifest, wanted, done cover, f func(*Row) error) (gone string, err error) {
	for i := range m.Segments {
		g := &m.Segments[i]
		if done.all(g.Ranges) || !wanted.some(g.Ranges) {
			continue
		}
		if g.Rows > 0 {
			data, err := src.Fetch(ctx, g)
			if err != nil {
				return g.ID, fmt.Errorf("segment %s: %w", g.ID, err)
			}
			err = Decode(data, g.Rows, func(r *Row) error {
				if seq := uint64(r.Seq); done.has(r.Session, seq) || !wanted.has(r.Session, seq) {
					return nil
				}
				return f(r)
			})
			if err != nil {
				return "", fmt.Errorf("segment %s: %w", g.ID, err)
			}
		}
		done.add(g.Ranges)
	}
	return "", ctx.Err()
}

// WalkBack calls f with rows from the newest to the oldest, until it returns
// false. It is for whoever alone may change the manifest.
func WalkBack(ctx context.Context, segments []fsm.Segment, fetch func(context.Context, *fsm.Segment) ([]byte, error), f func(*Row) bool) error {
	var rows []Row
	for i := range slices.Backward(segments) {
		g := &segments[i]
		if g.Rows == 0 {
			continue
		}
		data, err := fetch(ctx, g)
		if err != nil {
			return fmt.Errorf("segment %s: %w", g.ID, err)
		}
		rows = rows[:0]
		if err := Decode(data, g.Rows, func(r *Row) error { rows = append(rows, *r); return ctx.Err() }); err != nil {
			return fmt.Errorf("segment %s: %w", g.ID, err)
		}
		for j := range slices.Backward(rows) {
			if !f(&rows[j]) {
				return nil
			}
		}
	}
	return nil
}

// cover is a set of trajectories: disjoint runs by session, in order, no two
// adjoining.
type cover map[string][]fsm.Range

func (c cover) add(ranges []fsm.Range) {
	for _, r := range ranges {
		runs := c[r.Session]
		lo, _ := slices.BinarySearchFunc(runs, r.First, func(x fsm.Range, first uint64) int { return cmp.Compare(x.Last+1, first) })
		hi := lo
		for hi < len(runs) && runs[hi].First <= r.Last+1 {
			r.First, r.Last = min(r.First, runs[hi].First), max(r.Last, runs[hi].Last)
			hi++
		}
		c[r.Session] = slices.Replace(runs, lo, hi, r)
	}
}

func (c cover) has(session string, seq uint64) bool {
	return c.all([]fsm.Range{{Session: session, First: seq, Last: seq}})
}

// all says whether every trajectory of the ranges is in the set.
func (c cover) all(ranges []fsm.Range) bool {
	for _, r := range ranges {
		runs := c[r.Session]
		i, _ := slices.BinarySearchFunc(runs, r.First, func(x fsm.Range, first uint64) int { return cmp.Compare(x.Last, first) })
		if i == len(runs) || runs[i].First > r.First || runs[i].Last < r.Last {
			return false
		}
	}
	return true
}

// some says whether any trajectory of the ranges is in the set.
func (c cover) some(ranges []fsm.Range) bool {
	for _, r := range ranges {
		runs := c[r.Session]
		i, _ := slices.BinarySearchFunc(runs, r.First, func(x fsm.Range, first uint64) int { return cmp.Compare(x.Last, first) })
		if i < len(runs) && runs[i].First <= r.Last {
			return true
		}
	}
	return false
}
