package archive

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// TestSpread puts a segment on as many nodes as are wanted, the own one first,
// others where one is down; and waits while there are too few.
func TestSpread(t *testing.T) {
	st := newState(t)
	all, mesh, _, stop := nodes(t, st, 3)
	g, data := st.made(t, 10)
	if err := all[0].Spread(t.Context(), "grid", &g, data, copies(2)); err != nil {
		t.Fatal(err)
	}
	if got := holders(t, all, g.ID); !slices.Equal(got, g.Nodes) || len(got) != 2 || got[0] != "n0" {
		t.Errorf("on %v, listed as %v", got, g.Nodes)
	}
	st.commit(t, g)
	// Whoever would be asked first is down, and gossip does not know it yet.
	g, data = st.made(t, 10)
	first := all[0].peers(g.ID)[0].ID
	at := slices.IndexFunc(all, func(n *Node) bool { return n.Node == first })
	stop[at]()
	if err := all[0].Spread(t.Context(), "grid", &g, data, copies(2)); err != nil {
		t.Fatal(err)
	}
	if len(g.Nodes) != 2 || slices.Contains(g.Nodes, first) {
		t.Errorf("on %v with %s down", g.Nodes, first)
	}
	if got := all[0].peers(g.ID); got[len(got)-1].ID != first {
		t.Error("a node that failed is asked first again")
	}
	st.commit(t, g)
	if have, want, short := all[0].Short(3); have != 3 || want != 3 || short {
		t.Errorf("%d of %d servers, short: %v", have, want, short)
	}
	if _, _, short := all[0].Short(4); !short {
		t.Error("three servers are enough for four copies")
	}
	// Too few: it waits, and says so when it is given up.
	g, data = st.made(t, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := all[0].Spread(ctx, "grid", &g, data, copies(3))
	if !errors.Is(err, context.DeadlineExceeded) || g.Nodes != nil {
		t.Errorf("two of three nodes: %v, on %v", err, g.Nodes)
	}
	// One comes to be enough meanwhile.
	var asked int
	err = all[0].Spread(t.Context(), "grid", &g, data, func() (int, error) {
		if asked++; asked > 2 {
			return 2, nil
		}
		return 3, nil
	})
	if err != nil || asked < 3 {
		t.Errorf("%v after %d rounds", err, asked)
	}
	if all[0].Copies(0) != 2 || all[0].Copies(3) != 3 {
		t.Errorf("%d and %d copies", all[0].Copies(0), all[0].Copies(3))
	}
	over := errors.New("the lease is over")
	if err := all[0].Spread(t.Context(), "grid", &g, data, func() (int, error) { return 0, over }); !errors.Is(err, over) {
		t.Errorf("a lease that is over: %v", err)
	}
	mesh.mu.Lock()
	mesh.list = mesh.list[:1]
	mesh.mu.Unlock()
	if all[0].Copies(0) != 1 {
		t.Error("one server cannot have two copies")
	}
	if empty, _, err := New(0, 1, 9, nil, nil); err != nil || all[0].Spread(t.Context(), "grid", &empty, nil, copies(5)) != nil {
		t.Error("a segment without rows needs no node")
	}
}

// TestANodeThatHangs holds up one segment for a moment, and the next not at all.
// TestLearnersHoldNothing: a node that only trains may come and go, so neither its
// own segments nor those of others are left with it.
func TestLearnersHoldNothing(t *testing.T) {
	st := newState(t)
	all, mesh, _, _ := nodes(t, st, 4)
	for _, i := range []int{0, 1} {
		mesh.list[i].Role = cluster.RoleLearner
		all[i].Guest = true
	}
	for range 8 {
		g, data := st.made(t, 10)
		if err := all[0].Spread(t.Context(), "grid", &g, data, copies(2)); err != nil {
			t.Fatal(err)
		}
		if got := holders(t, all, g.ID); !slices.Equal(got, []string{"n2", "n3"}) || !slices.Equal(got, g.Nodes) {
			t.Fatalf("on %v, listed as %v", got, g.Nodes)
		}
		st.commit(t, g)
		if back, err := all[1].Fetch(t.Context(), "grid", &g); err != nil || !bytes.Equal(back, data) {
			t.Fatalf("read by a learner: %v", err)
		}
	}
	g, data := st.made(t, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := all[0].Spread(ctx, "grid", &g, data, copies(3)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("three copies on two servers: %v, on %v", err, g.Nodes)
	}
}

func TestANodeThatHangs(t *testing.T) {
	st := newState(t)
	all, mesh, _, stop := nodes(t, st, 3)
	g, data := st.made(t, 10)
	first := all[0].peers(g.ID)[0].ID
	at := slices.IndexFunc(all, func(n *Node) bool { return n.Node == first })
	stop[at]()
	hung, err := net.Listen("tcp", "127.0.0.1:0") // it is connected to, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	mesh.mu.Lock()
	mesh.list[at].GRPCAddr = hung.Addr().String()
	mesh.mu.Unlock()
	all[0].hedge = hedgeAfter
	for i := range 4 {
		began := time.Now()
		if err := all[0].Spread(t.Context(), "grid", &g, data, copies(2)); err != nil || slices.Contains(g.Nodes, first) {
			t.Fatal(g.Nodes, err)
		}
		took := time.Since(began)
		// On a busy machine the others may be late as well, and then who is asked first is open.
		all[0].mu.Lock()
		shunned := all[0].Clock.Now().Before(all[0].slow[first])
		all[0].mu.Unlock()
		if i == 0 && took > putPatience || !shunned {
			t.Errorf("segment %d took %v with a node that hangs; is it asked last: %v", i, took, shunned)
		}
		st.commit(t, g)
		g, data = st.made(t, 10)
	}
}

// TestPutIsRefused where a segment can never be listed, is not what it was called, or
// the job is not known yet.
func TestPutIsRefused(t *testing.T) {
	st := newState(t)
	all, _, _, _ := nodes(t, st, 1)
	g, data := st.made(t, 3)
	old, oldData := st.made(t, 4)
	name := func(g fsm.Segment) *wire.SegmentName { return SegmentName("grid", &g) }
	put := func(n *wire.SegmentName, data []byte) error {
		c, err := all[0].clients.Client(all[0].Mesh.Members()[0].GRPCAddr)
		if err != nil {
			t.Fatal(err)
		}
		return c.PutSegment(t.Context(), "c", n, data)
	}
	if err := put(name(g), data); err != nil {
		t.Fatal(err)
	}
	st.commit(t, g)
	st.apply(t, &fsm.Grant{Job: "grid", Epoch: 2, Node: "n1"})
	if err := put(name(old), oldData); !errors.Is(err, cluster.ErrFenced) {
		t.Errorf("of a fenced epoch: %v", err)
	}
	if err := put(name(g), data); err != nil {
		t.Errorf("a listed one of a fenced epoch, as after a loss: %v", err)
	}
	other := name(g)
	other.Job = "other"
	if err := put(other, data); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("of a job that this node does not know: %v", err)
	}
	wrong := name(g)
	wrong.Hash = bytes.Clone(g.Hash[:])
	wrong.Hash[31] ^= 1
	if err := put(wrong, data); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("bytes with another hash: %v", err)
	}
	wrong = name(g)
	wrong.ID = Name{Epoch: 2, Tag: "00"}.String()
	if err := put(wrong, data); !errors.Is(err, cluster.ErrInvalid) {
		t.Errorf("a name with another tag: %v", err)
	}
	long := name(g)
	long.Size = wire.MaxSegment + 1
	if err := put(long, data); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("a segment over the cap: %v", err)
	}
	long.Size = g.Bytes + 1
	if err := put(long, data); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("a segment that ends early: %v", err)
	}
	c, err := all[0].clients.Client(all[0].Mesh.Members()[0].GRPCAddr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PutSegment(t.Context(), "another", name(g), data); !errors.Is(err, cluster.ErrForeignCluster) {
		t.Errorf("of another cluster: %v", err)
	}
	if _, err := c.GetSegment(t.Context(), &wire.GetSegmentRequest{ClusterID: "c", Segment: *name(old)}); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("what was never put: %v", err)
	}
}

// TestANodeReceivesSoManySegments at a time: each is in its memory.
func TestANodeReceivesSoManySegments(t *testing.T) {
	st := newState(t)
	all, _, _, _ := nodes(t, st, 1)
	g, data := st.made(t, 3)
	name := SegmentName("grid", &g)
	var release func()
	for range maxArriving {
		var err error
		if release, err = all[0].Admit(name); err != nil {
			t.Fatal(err)
		}
	}
	c, err := all[0].clients.Client(all[0].Mesh.Members()[0].GRPCAddr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PutSegment(t.Context(), "c", name, data); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("one more: %v", err)
	}
	release()
	for range 3 * maxArriving { // each gives its place back
		if err := c.PutSegment(t.Context(), "c", name, data); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFetchFindsAnotherCopy where the own one is damaged or missing.
func TestFetchFindsAnotherCopy(t *testing.T) {
	st := newState(t)
	all, _, _, stop := nodes(t, st, 3)
	g, data := st.made(t, 10)
	if err := all[0].Spread(t.Context(), "grid", &g, data, copies(2)); err != nil {
		t.Fatal(err)
	}
	st.commit(t, g)
	path := filepath.Join(all[0].Store.root, "grid", g.ID+suffix)
	bad := bytes.Clone(data)
	bad[3] ^= 1
	if err := os.WriteFile(path, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if got, err := n.Fetch(t.Context(), "grid", &g); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", n.Node, len(got), err)
		}
	}
	if got := holders(t, all, g.ID); len(got) != 1 || got[0] == "n0" {
		t.Errorf("held by %v with a damaged copy on n0", got)
	}
	other := slices.IndexFunc(all, func(n *Node) bool { return n.Node == holders(t, all, g.ID)[0] })
	stop[other]()
	if _, err := all[0].Fetch(t.Context(), "grid", &g); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("with no copy left: %v", err)
	}
}

// TestABucketIsWrittenOnce, whatever the number of nodes, and listed without
// nodes.
func TestABucketIsWrittenOnce(t *testing.T) {
	st := newState(t)
	all, _, _, _ := nodes(t, st, 2)
	root := t.TempDir()
	for _, n := range all {
		s, err := OpenBucket(t.Context(), "file://"+root, "c")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		n.Store = s
	}
	g, data := st.made(t, 7)
	if err := all[0].Spread(t.Context(), "grid", &g, data, copies(2)); err != nil || g.Nodes != nil {
		t.Fatal(g.Nodes, err)
	}
	st.commit(t, g)
	if got, err := all[1].Fetch(t.Context(), "grid", &g); err != nil || !bytes.Equal(got, data) {
		t.Error(len(got), err)
	}
	all[1].Care(t.Context())
	if rows := rowsOf(t, served{all[0]}); len(rows) != 7 {
		t.Errorf("%d rows", len(rows))
	}
}
