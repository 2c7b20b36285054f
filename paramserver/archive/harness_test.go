package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
		node.hedge = time.Minute // or a busy machine makes more copies than a test counts
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
		held, err := holds(t.Context(), n.Store, "grid", id)
		if err != nil {
			t.Fatal(err)
		}
		if held {
			out = append(out, n.Node)
		}
	}
	return out
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

// holds says whether a store has a segment.
func holds(ctx context.Context, s *Store, job, id string) (bool, error) {
	size, err := s.Size(ctx, job, id)
	return size >= 0, err
}
