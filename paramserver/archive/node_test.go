package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// state is a real state machine without a log.
type state struct {
	mu    sync.Mutex
	s     *fsm.State
	index uint64
}

func newState(t testing.TB) *state {
	t.Helper()
	st := &state{s: fsm.New()}
	spec := job.Default()
	spec.Name, spec.Env.Name = "grid", "hypergrid"
	raw, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []any{
		&fsm.Init{ClusterID: "c"}, &fsm.Activate{Level: 2}, &fsm.CreateJob{Job: "grid", Spec: raw, Updates: 1 << 40},
		&fsm.Grant{Job: "grid", Epoch: 1, Node: "n0"}, &fsm.OpenSession{Job: "grid", Session: "a", Worker: "w"},
	} {
		st.apply(t, cmd)
	}
	return st
}

func (st *state) apply(t testing.TB, cmd any) {
	t.Helper()
	data, err := fsm.Encode(cmd)
	if err != nil {
		t.Fatal(err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.index++
	if res, err := st.s.Apply(st.index, 1, data); err != nil || res.Outcome != fsm.Applied {
		t.Fatalf("%T: %+v, %v", cmd, res, err)
	}
}

func (st *state) Read(f func(*fsm.State)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f(st.s)
}
func (st *state) Linearize(context.Context) error { return nil }

// made is a segment of n rows of session a for the next Commit.
func (st *state) made(t testing.TB, n int) (fsm.Segment, []byte) {
	t.Helper()
	j, mark := st.at()
	var rows []Row
	for i := range n {
		rows = append(rows, Row{Object: fmt.Sprintf("(%d)", i), Session: "a", Seq: int64(mark) + int64(i) + 1})
	}
	g, data, err := New(j.Generation, j.Epoch, j.Version+1, rows, []fsm.Range{{Session: "a", First: mark + 1, Last: mark + uint64(n)}})
	if err != nil {
		t.Fatal(err)
	}
	return g, data
}

func (st *state) at() (j *fsm.Job, mark uint64) {
	st.Read(func(s *fsm.State) {
		j, _ = s.Job("grid")
		session, _ := s.Session("grid", "a")
		mark = session.Mark
	})
	return j, mark
}

// commit lists a segment.
func (st *state) commit(t testing.TB, g fsm.Segment) {
	t.Helper()
	j, mark := st.at()
	n := g.Ranges[0].Last - mark
	st.apply(t, &fsm.Commit{Job: "grid", Epoch: j.Epoch, Base: j.Version, Version: j.Version + 1, Params: make([]byte, 4), Private: []byte{byte(j.Version)},
		Marks: []fsm.Mark{{Session: "a", Seq: mark + n, Admitted: n}}, Segments: []fsm.Segment{g}})
}

// members is a mesh of nodes that a test has started.
type members struct {
	mu   sync.Mutex
	list []cluster.Member
}

func (m *members) ClusterID() string { return "c" }
func (m *members) Members() []cluster.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list)
}

func (m *members) set(id string, s cluster.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.list {
		if m.list[i].ID == id {
			m.list[i].State = s
		}
	}
}

func (m *members) ids() (out []string) {
	for _, x := range m.Members() {
		out = append(out, x.ID)
	}
	return out
}

// clocked is a clock that a test moves.
type clocked struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clocked) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clocked) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// nodes starts n nodes with a state, real servers on loopback; the first leads.
// stop ends one's server.
func nodes(t *testing.T, st *state, n int) (out []*Node, mesh *members, now *clocked, stop []func()) {
	t.Helper()
	mesh, now = &members{}, &clocked{t: time.Unix(1_700_000_000, 0)}
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := openTestStore(t)
		mesh.list = append(mesh.list, cluster.Member{ID: fmt.Sprintf("n%d", i), Role: cluster.RoleServer, GRPCAddr: l.Addr().String(), State: cluster.Alive})
		node := NewNode(Config{Node: fmt.Sprintf("n%d", i), Store: s, Mesh: mesh, State: view{st, i == 0}, Members: mesh.ids, Clock: now, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		rpc := cluster.NewServer(cluster.ServerOptions{ClusterID: func() string { return "c" }})
		cluster.RegisterArchive(rpc, node)
		var served sync.WaitGroup
		served.Go(func() {
			if err := rpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				t.Error(err)
			}
		})
		end := sync.OnceFunc(func() { rpc.Stop(); served.Wait() })
		stop = append(stop, end)
		t.Cleanup(func() {
			end()
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		})
		out = append(out, node)
	}
	return out, mesh, now, stop
}

// view is the state as one of several nodes sees it.
type view struct {
	*state
	leads bool
}

func (v view) IsLeader() bool { return v.leads }

func copies(n int) func() (int, error) { return func() (int, error) { return n, nil } }

func holders(t *testing.T, nodes []*Node, id string) (out []string) {
	t.Helper()
	for _, n := range nodes {
		held, err := n.Store.Holds(t.Context(), "grid", id)
		if err != nil {
			t.Fatal(err)
		}
		if held {
			out = append(out, n.Node)
		}
	}
	return out
}

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
	for i := range 4 {
		began := time.Now()
		if err := all[0].Spread(t.Context(), "grid", &g, data, copies(2)); err != nil || slices.Contains(g.Nodes, first) {
			t.Fatal(g.Nodes, err)
		}
		took := time.Since(began)
		if i == 0 && took > putPatience || all[0].peers(g.ID)[0].ID == first {
			t.Errorf("segment %d took %v with a node that hangs; who is asked first: %s", i, took, all[0].peers(g.ID)[0].ID)
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

// served reads an archive through a node's own server.
type served struct{ *Node }

func (s served) Manifest(ctx context.Context) (*Manifest, error) {
	c, err := s.clients.Client(s.Mesh.Members()[0].GRPCAddr)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Job: "grid"}
	err = c.Manifest(ctx, &wire.ManifestRequest{ClusterID: "c", Job: "grid"}, m.Take)
	return m, errors.Join(err, m.Whole())
}

func (s served) Fetch(ctx context.Context, g *fsm.Segment) ([]byte, error) {
	return s.Node.Fetch(ctx, "grid", g)
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
