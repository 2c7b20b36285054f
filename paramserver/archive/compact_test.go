package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"pgregory.net/rapid"
)

// shelf is an archive in memory, as a state machine would list it.
type shelf struct {
	t        rapid.TB
	job      fsm.Job
	segments []fsm.Segment
	blobs    map[string][]byte
	next     map[string]uint64
}

func newShelf(t rapid.TB) *shelf {
	return &shelf{t: t, job: fsm.Job{ID: "grid", Epoch: 1}, blobs: map[string][]byte{}, next: map[string]uint64{}}
}

// commit lists a segment of a window: a run of trajectories of each session, of
// which the share of rows is kept.
func (s *shelf) commit(runs map[string]int, kept func(seq uint64) bool) {
	s.job.Version++
	var rows []Row
	c := cover{}
	for session, n := range runs {
		if n == 0 {
			continue
		}
		first := s.next[session] + 1
		s.next[session] += uint64(n)
		c.add([]fsm.Range{{Session: session, First: first, Last: s.next[session]}})
		for seq := first; seq <= s.next[session]; seq++ {
			if kept(seq) {
				rows = append(rows, Row{Object: fmt.Sprint("(", seq%9, ")"), Session: session, Seq: int64(seq), Version: int64(s.job.Version)})
			}
		}
	}
	g, data, err := New(0, 1, s.job.Version, rows, c.ranges())
	if err != nil {
		s.t.Fatal(err)
	}
	s.blobs[g.ID] = data
	s.segments = append(s.segments, g)
}

func (s *shelf) fetch(_ context.Context, g *fsm.Segment) ([]byte, error) {
	data, ok := s.blobs[g.ID]
	if !ok {
		return nil, ErrNotHeld
	}
	return data, nil
}

// merge replaces a run, as Compact does; false if there is nothing to merge.
func (s *shelf) merge() bool {
	run := slices.Clone(Plan(s.segments))
	if run == nil {
		return false
	}
	g, data, err := Merge(context.Background(), &s.job, run, s.fetch)
	if err != nil {
		s.t.Fatal(err)
	}
	at := slices.IndexFunc(s.segments, func(x fsm.Segment) bool { return x.ID == run[0].ID })
	for i, x := range run {
		if s.segments[at+i].ID != x.ID {
			s.t.Fatal("a plan of segments that are no neighbours")
		}
		delete(s.blobs, x.ID)
	}
	if _, known := s.blobs[g.ID]; known {
		s.t.Fatalf("two segments %s", g.ID)
	}
	s.segments = slices.Replace(s.segments, at, at+len(run), g)
	s.blobs[g.ID] = data
	return true
}

func (s *shelf) Manifest(context.Context) (*Manifest, error) {
	m := &Manifest{Job: "grid", Segments: slices.Clone(s.segments)}
	for _, g := range s.segments {
		m.Rows += g.Rows
	}
	return m, nil
}

func (s *shelf) Fetch(ctx context.Context, g *fsm.Segment) ([]byte, error) { return s.fetch(ctx, g) }

var _ Source = (*shelf)(nil)

func rowsOf(t rapid.TB, src Source) (out []Row) {
	if err := Walk(context.Background(), src, nil, func(r *Row) error { out = append(out, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMergingChangesNothing but the number of segments: the rows stay, in order,
// and so do the ranges; and the number stays small.
func TestMergingChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { mergeAndCompare(t, rapid.IntRange(0, 4*FanIn).Draw(t, "commits")) })
	rapid.Check(t, func(t *rapid.T) {
		if rapid.IntRange(0, 50).Draw(t, "long") == 0 {
			mergeAndCompare(t, rapid.IntRange(FanIn*FanIn, 2*FanIn*FanIn).Draw(t, "commits"))
		}
	})
}

func mergeAndCompare(t *rapid.T, commits int) {
	s := newShelf(t)
	share := rapid.SampledFrom([]uint64{0, 1, 7}).Draw(t, "share")
	for range commits {
		s.commit(map[string]int{"a": 1, "b": rapid.IntRange(0, 3).Draw(t, "b")}, func(seq uint64) bool { return share > 0 && seq%share == 0 })
	}
	before, listed := rowsOf(t, s), cover{}
	for _, g := range s.segments {
		listed.add(g.Ranges)
	}
	for s.merge() {
	}
	after, now := rowsOf(t, s), cover{}
	for _, g := range s.segments {
		now.add(g.Ranges)
	}
	if !slices.Equal(before, after) {
		t.Fatalf("%d rows before, %d after", len(before), len(after))
	}
	if !slices.Equal(listed.ranges(), now.ranges()) {
		t.Fatalf("covered %v before, %v after", listed.ranges(), now.ranges())
	}
	if len(s.segments) >= 4*FanIn {
		t.Fatalf("%d segments of %d commits", len(s.segments), commits)
	}
}

// TestFullSegmentsStay, and do not keep their neighbours from being merged.
func TestFullSegmentsStay(t *testing.T) {
	var list []fsm.Segment
	add := func(tier int, rows int64) {
		n := Name{Epoch: 1, Version: uint64(len(list)), Tier: tier, Tag: "aa"}
		list = append(list, fsm.Segment{ID: n.String(), Rows: rows, Bytes: rows})
	}
	for range 3 * FanIn {
		add(2, mergedRows/2+1)
	}
	for range FanIn - 1 {
		add(0, 10)
	}
	if run := Plan(list); run != nil {
		t.Errorf("%d segments from %s are to be merged", len(run), run[0].ID)
	}
	add(0, 10)
	if run := Plan(list); len(run) != FanIn || run[0].ID != list[3*FanIn].ID {
		t.Errorf("%d segments are to be merged", len(run))
	}
	list = nil
	for range FanIn {
		add(1, mergedRows/3)
	}
	if run := Plan(list); len(run) != 3 {
		t.Errorf("%d segments of a third of the cap are to be merged", len(run))
	}
}

// merging is a Source whose segments are merged away while it is read.
type merging struct {
	*shelf
	fetches int
}

func (m *merging) Fetch(ctx context.Context, g *fsm.Segment) ([]byte, error) {
	if m.fetches++; m.fetches%5 == 0 {
		m.commit(map[string]int{"a": 3}, func(uint64) bool { return true }) // what comes later is not asked for
		m.merge()
	}
	return m.shelf.Fetch(ctx, g)
}

// TestReadersSeeEveryRowOnce although segments are merged under their hands, and
// nothing that was listed after they began.
func TestReadersSeeEveryRowOnce(t *testing.T) {
	s := newShelf(t)
	for i := range 3 * FanIn {
		s.commit(map[string]int{"a": 2, "b": i % 3}, func(seq uint64) bool { return seq%4 != 1 })
	}
	want := rowsOf(t, s)
	got := rowsOf(t, &merging{shelf: s})
	if !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
}

// TestLostSegmentsAreAnError, not fewer rows.
func TestLostSegmentsAreAnError(t *testing.T) {
	s := newShelf(t)
	for range 3 {
		s.commit(map[string]int{"a": 2}, func(uint64) bool { return true })
	}
	delete(s.blobs, s.segments[1].ID)
	rows := 0
	err := Walk(t.Context(), s, nil, func(*Row) error { rows++; return nil })
	if !errors.Is(err, ErrNotHeld) || rows != 2 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

func TestWalkBack(t *testing.T) {
	s := newShelf(t)
	for range 5 {
		s.commit(map[string]int{"a": 3}, func(seq uint64) bool { return seq%2 == 0 })
	}
	want := rowsOf(t, s)
	slices.Reverse(want)
	for _, n := range []int{1, 4, len(want), len(want) + 1} {
		var got []Row
		err := WalkBack(t.Context(), s.segments, s.fetch, func(r *Row) bool { got = append(got, *r); return len(got) < n })
		if err != nil || !slices.Equal(got, want[:min(n, len(want))]) {
			t.Errorf("%d of %d: %d rows, %v", n, len(want), len(got), err)
		}
	}
}

// TestCover against a set.
func TestCover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, set := cover{}, map[uint64]bool{}
		for range rapid.IntRange(0, 12).Draw(t, "ranges") {
			first := rapid.Uint64Range(1, 40).Draw(t, "first")
			last := first + rapid.Uint64Range(0, 8).Draw(t, "more")
			c.add([]fsm.Range{{Session: "a", First: first, Last: last}})
			for i := first; i <= last; i++ {
				set[i] = true
			}
		}
		for lo := uint64(1); lo < 50; lo++ {
			all, some := true, false
			for hi := lo; hi < 50; hi++ {
				all, some = all && set[hi], some || set[hi]
				r := []fsm.Range{{Session: "a", First: lo, Last: hi}}
				if c.all(r) != all || c.some(r) != some || c.has("a", lo) != set[lo] {
					t.Fatalf("%d to %d: all %v, some %v; want %v, %v in %v", lo, hi, c.all(r), c.some(r), all, some, c)
				}
			}
		}
		for i, r := range c.ranges() {
			if i > 0 && c["a"][i-1].Last+1 >= r.First {
				t.Fatalf("runs adjoin: %v", c["a"])
			}
		}
	})
}

// TestManifestsTravel in parts, whole or not at all.
func TestManifestsTravel(t *testing.T) {
	s := newShelf(t)
	for i := range 2500 {
		s.commit(map[string]int{fmt.Sprint("s", i%7): 2, "b": 1}, func(uint64) bool { return false })
	}
	m, _ := s.Manifest(t.Context())
	m.Version, m.Generation, m.Spec = 7, 3, []byte("{}")
	parts := 0
	got := &Manifest{Job: "grid"}
	if err := m.send(func(p *wire.ManifestReply) error { parts++; return errors.Join(p.Check(), got.Take(p)) }); err != nil || parts < 3 {
		t.Fatal(parts, err)
	}
	if err := got.Whole(); err != nil || got.Version != 7 || got.Generation != 3 || len(got.Segments) != 2500 {
		t.Fatalf("%d segments, %v", len(got.Segments), err)
	}
	for i := range got.Segments {
		if a, b := got.Segments[i], m.Segments[i]; a.ID != b.ID || a.Hash != b.Hash || !slices.Equal(a.Ranges, b.Ranges) {
			t.Fatalf("segment %d is %+v, want %+v", i, a, b)
		}
	}
	part := 0
	got = &Manifest{}
	err := m.send(func(p *wire.ManifestReply) error {
		if part++; part == 2 {
			return nil // lost
		}
		return got.Take(p)
	})
	if err != nil || got.Whole() == nil {
		t.Error("a manifest with a hole is whole")
	}
}
