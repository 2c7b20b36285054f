package archive

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// TestRepair gives a third node a copy when a holder is gone for good, and not
// before; a damaged copy is found and replaced.
func TestRepair(t *testing.T) {
	st := newState(t)
	all, mesh, now, stop := nodes(t, st, 4)
	var listed []fsm.Segment
	for range 6 {
		g, data := st.made(t, 5)
		if err := all[0].Spread(t.Context(), "grid", &g, data, copies(2)); err != nil {
			t.Fatal(err)
		}
		st.commit(t, g)
		listed = append(listed, g)
	}
	counts := func() (few int) {
		for _, g := range listed {
			alive := 0
			for _, id := range holders(t, all, g.ID) {
				for _, m := range mesh.Members() {
					if m.ID == id && m.State == cluster.Alive {
						alive++
					}
				}
			}
			if alive < 2 {
				few++
			}
		}
		return few
	}
	all[0].Care(t.Context())
	if counts() != 0 {
		t.Fatal("spread on too few")
	}
	gone := listed[0].Nodes[1]
	at := slices.IndexFunc(all, func(n *Node) bool { return n.Node == gone })
	mesh.set(gone, cluster.Dead)
	stop[at]()
	lost := counts()
	all[0].Care(t.Context())
	if got := counts(); lost == 0 || got != lost {
		t.Errorf("%d lack a copy at once, %d after a round: a node that is away for a moment was replaced", lost, got)
	}
	now.forward(2 * time.Minute)
	all[1-at/3].Care(t.Context()) // whoever does not lead repairs nothing
	all[0].Care(t.Context())
	if got := counts(); got != 0 {
		t.Errorf("%d segments are on one node", got)
	}
	bad := filepath.Join(all[0].Store.root, "grid", listed[2].ID+suffix)
	if err := os.WriteFile(bad, []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	all[0].Care(t.Context())
	if got := counts(); got != 0 {
		t.Errorf("%d segments are on one node after damage", got)
	}
	// A copy elsewhere that has another size is none, though nobody there has read it.
	g := listed[1]
	at = slices.IndexFunc(all[1:], func(n *Node) bool {
		held, err := holds(t.Context(), n.Store, "grid", g.ID)
		return held && err == nil && n.Node != gone
	}) + 1
	if err := os.WriteFile(all[at].Store.path("grid/"+g.ID+suffix), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	all[0].Care(t.Context())
	whole := 0
	for _, n := range all {
		if _, err := n.Store.Get(t.Context(), SegmentName("grid", &g)); err == nil {
			whole++
		}
	}
	if whole < 2 {
		t.Errorf("%d whole copies after one was cut short", whole)
	}
}

// TestSweep removes orphans of fenced epochs, commits that never were, and what
// was merged, each after its grace, and nothing else.
func TestSweep(t *testing.T) {
	st := newState(t)
	all, _, now, _ := nodes(t, st, 1)
	n, ctx := all[0], t.Context()
	put := func(g fsm.Segment, data []byte) string {
		t.Helper()
		if err := n.Store.Put(ctx, "grid", g.ID, data); err != nil {
			t.Fatal(err)
		}
		return g.ID
	}
	never, data := st.made(t, 9) // proposed, and never applied
	put(never, data)
	var merged []fsm.Segment
	for range 2 {
		g, data := st.made(t, 5)
		put(g, data)
		st.commit(t, g)
		merged = append(merged, g)
	}
	coming, data := st.made(t, 5) // of a Commit that is under way
	put(coming, data)
	j, _ := st.at()
	one, content, err := Merge(ctx, j, merged, func(ctx context.Context, g *fsm.Segment) ([]byte, error) {
		return n.Store.Get(ctx, SegmentName("grid", g))
	})
	if err != nil {
		t.Fatal(err)
	}
	put(one, content) // not yet listed either
	if err := n.Store.Put(ctx, "grid", "notes-of-somebody", []byte("x")); err != nil {
		t.Fatal(err)
	}
	here := func() (out []string) {
		t.Helper()
		list, err := n.Store.List(ctx, "grid")
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list {
			out = append(out, b.ID)
		}
		return out
	}
	want := func(when string, ids ...string) {
		t.Helper()
		for range 2 { // noticed, and removed
			n.Care(ctx)
			if got := here(); len(got) > len(ids) {
				now.forward(2 * time.Minute)
			}
		}
		slices.Sort(ids)
		if got := here(); !slices.Equal(got, ids) {
			t.Errorf("%s: %v, want %v", when, got, ids)
		}
	}
	all0 := here()
	n.Care(ctx)
	if got := here(); !slices.Equal(got, all0) {
		t.Errorf("removed without a grace: %v", got)
	}
	want("before the merge", merged[0].ID, merged[1].ID, coming.ID, one.ID, "notes-of-somebody")
	st.apply(t, &fsm.Compact{Job: "grid", Epoch: 1, Remove: []string{merged[0].ID, merged[1].ID}, Add: one})
	want("merged", coming.ID, one.ID, "notes-of-somebody")
	st.apply(t, &fsm.Grant{Job: "grid", Epoch: 2, Node: "n0"})
	want("fenced", one.ID, "notes-of-somebody")
	if rows := rowsOf(t, served{n}); len(rows) != 10 {
		t.Errorf("%d rows are left", len(rows))
	}
}
