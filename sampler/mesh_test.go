package sampler_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/fanout"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
	"github.com/driftmesh/driftmesh/sampler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second // until a test gives up waiting

var quiet = slog.New(slog.DiscardHandler)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// meshNode serves a mesh service on loopback until the test ends.
type meshNode struct {
	cluster string
	addr    string
	leader  *cluster.Leader
}

// listen opens the socket that serve answers on.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := cluster.Security{}.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// service is what a server offers to workers.
type service interface {
	cluster.MeshServer
	cluster.ParametersServer
}

// oneServer is a mesh with one server in it.
type oneServer struct{ addr string }

func (m oneServer) Members() []cluster.Member {
	return []cluster.Member{{ID: "server", Role: cluster.RoleServer, GRPCAddr: m.addr, State: cluster.Alive}}
}

func (m oneServer) Events(ctx context.Context) <-chan cluster.Member {
	events := make(chan cluster.Member)
	context.AfterFunc(ctx, func() { close(events) })
	return events
}

func (oneServer) Hints() (map[string]wire.Position, <-chan struct{}) { return nil, nil }

func (oneServer) SetFollows([]string) error { return nil }

func serve(t *testing.T, l net.Listener, clusterID string, impl service) *meshNode {
	t.Helper()
	n := &meshNode{cluster: clusterID, addr: l.Addr().String()}
	rpc := cluster.NewServer(cluster.ServerOptions{ClusterID: func() string { return clusterID }})
	cluster.RegisterMesh(rpc, impl)
	cluster.RegisterParameters(rpc, impl)
	n.leader = cluster.NewLeader(clusterID, func() []string { return []string{n.addr} }, cluster.DialOptions{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := rpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := n.leader.Close(); err != nil {
			t.Error(err)
		}
		rpc.Stop()
		wg.Wait()
	})
	return n
}

// work runs a worker of that node until the returned function, or the test, ends it.
func (n *meshNode) work(t *testing.T, w *sampler.Worker) (end func()) {
	t.Helper()
	w.ClusterID, w.Node, w.Leader, w.Logger = n.cluster, uuid.NewString(), n.leader, quiet
	w.Parameters = fanout.NewNode(fanout.Config{ClusterID: n.cluster, Node: w.Node, Mesh: oneServer{n.addr}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	end = func() { cancel(); wg.Wait(); w.Parameters.Close() }
	t.Cleanup(end)
	return end
}

// parameterServer is a whole server in this process: raft on a disk, gossip,
// gRPC, and the learners.
type parameterServer struct {
	*meshNode
	replica *replica.Replica
}

func startServer(t *testing.T) *parameterServer {
	t.Helper()
	nodeID, clusterID := uuid.NewString(), uuid.NewString()
	rep, err := replica.Open(replica.Config{Dir: t.TempDir(), ID: nodeID, Listen: "127.0.0.1:0", Single: true, Bootstrap: true})
	if err != nil {
		t.Fatal(err)
	}
	closing := func(f func(context.Context) error) func() {
		return func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := f(ctx); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(closing(rep.Shutdown))
	l := listen(t)
	mesh, err := cluster.NewMesh(cluster.MeshConfig{
		NodeID: nodeID, ClusterID: clusterID, Role: cluster.RoleServer,
		Bind: "127.0.0.1:0", GRPCAddr: l.Addr().String(), RaftAddr: rep.Addr(), Preset: cluster.Local(),
	})
	if err != nil {
		t.Fatal(errors.Join(err, l.Close()))
	}
	t.Cleanup(closing(mesh.Close))
	s := &parameterServer{replica: rep}
	srv := paramserver.NewServer(paramserver.Config{Replica: rep, Mesh: mesh, Node: nodeID, Addr: l.Addr().String(), Clock: clock.Real{}, Logger: quiet})
	s.meshNode = serve(t, l, clusterID, srv)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	s.found(t)
	return s
}

// found waits for the election of the only voter and names the cluster.
func (s *parameterServer) found(t *testing.T) {
	t.Helper()
	ctx := within(t)
	for !s.replica.IsLeader() {
		select {
		case <-s.replica.LeaderCh():
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("no leader")
		}
	}
	if res, err := s.replica.Apply(ctx, &fsm.Init{ClusterID: s.cluster}); err != nil || res.Outcome != fsm.Applied {
		t.Fatal(res, err)
	}
}

func (s *parameterServer) submit(t *testing.T, spec *job.Spec) {
	t.Helper()
	raw, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.CallIdempotent(within(t), s.leader, (*cluster.Client).Submit, &wire.SubmitRequest{ClusterID: s.cluster, Spec: raw}); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition on the replicated state.
func (s *parameterServer) until(t *testing.T, what string, cond func(*fsm.State) bool) {
	t.Helper()
	ctx := within(t)
	for {
		changed, ok := s.replica.Changed(), false
		s.replica.Read(func(st *fsm.State) { ok = cond(st) })
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}
