package cluster_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// node is a mesh service whose answers a test may set.
type node struct {
	cluster.MeshServer // the methods that no test calls

	mu     sync.Mutex
	leader string
	submit func(*wire.SubmitRequest) (*wire.SubmitReply, error)
	gone   chan struct{} // closed when a Watch stream's client is gone
}

func (n *node) Submit(_ context.Context, r *wire.SubmitRequest) (*wire.SubmitReply, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.submit != nil {
		return n.submit(r)
	}
	return &wire.SubmitReply{Job: string(r.Spec)}, nil
}

func (n *node) Control(_ context.Context, r *wire.ControlRequest) (*wire.ControlReply, error) {
	return nil, errors.Join(cluster.ErrNotFound, errors.New("job "+r.Job))
}

func (n *node) Status(context.Context, *wire.StatusRequest) (*wire.StatusReply, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &wire.StatusReply{ClusterID: clusterA, Leader: n.leader}, nil
}

func (n *node) OpenSession(_ context.Context, r *wire.OpenSessionRequest) (*wire.OpenSessionReply, error) {
	return &wire.OpenSessionReply{Session: r.Token, Mark: 7}, nil
}

func (n *node) State(_ context.Context, r *wire.StateRequest) (*wire.StateReply, error) {
	return &wire.StateReply{Info: wire.JobInfo{ID: r.Job}, Params: []byte{1}, Private: []byte{2}}, nil
}

func (n *node) Join(context.Context, *wire.JoinRequest) (*wire.JoinReply, error) {
	return &wire.JoinReply{ClusterID: clusterA, Gossip: []string{"127.0.0.1:1"}}, nil
}

func (n *node) Assign(r *wire.AssignRequest, s grpc.ServerStreamingServer[wire.Assignment]) error {
	if err := s.Send(&wire.Assignment{Job: "grid"}); err != nil {
		return err
	}
	return cluster.ErrNotLeader{Addr: "127.0.0.1:9"}
}

func (n *node) Subscribe(r *wire.SubscribeRequest, s grpc.ServerStreamingServer[wire.Snapshot]) error {
	for v := range uint64(3) {
		snap := &wire.Snapshot{Job: r.Job, Position: wire.Position{Version: r.After.Version + v + 1}, Params: make([]byte, 3<<20)}
		if err := s.Send(snap); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) Watch(_ *wire.WatchRequest, s grpc.ServerStreamingServer[wire.WatchReply]) error {
	if err := s.Send(&wire.WatchReply{Row: []byte("{}")}); err != nil {
		return err
	}
	<-s.Context().Done()
	close(n.gone)
	return s.Context().Err()
}

func (n *node) Deliver(s grpc.BidiStreamingServer[wire.Uplink, wire.Downlink]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	if first.Hello == nil {
		return cluster.ErrInvalid
	}
	if err := s.Send(&wire.Downlink{Resume: 1, Credit: 100}); err != nil {
		return err
	}
	for {
		up, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := wire.DecodeBatch(up.Batch)
		if err != nil {
			return err
		}
		if err := s.Send(&wire.Downlink{Mark: b.LastSeq()}); err != nil {
			return err
		}
	}
}

// serve offers n on a free port of loopback and returns its address.
func serve(t *testing.T, n cluster.MeshServer) string {
	t.Helper()
	l, err := cluster.Security{}.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := cluster.NewServer(cluster.ServerOptions{ClusterID: func() string { return clusterA }})
	cluster.RegisterMesh(s, n)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr string) *cluster.Client {
	t.Helper()
	c, err := cluster.Dial(addr, cluster.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestUnaryCalls(t *testing.T) {
	c, ctx := dial(t, serve(t, &node{leader: "127.0.0.1:5"})), within(t)
	if r, err := c.Submit(ctx, &wire.SubmitRequest{ClusterID: clusterA, Spec: []byte("grid")}); err != nil || r.Job != "grid" {
		t.Errorf("submit: %+v, %v", r, err)
	}
	if r, err := c.Status(ctx, &wire.StatusRequest{}); err != nil || r.ClusterID != clusterA || r.Leader != "127.0.0.1:5" {
		t.Errorf("status: %+v, %v", r, err)
	}
	if r, err := c.OpenSession(ctx, &wire.OpenSessionRequest{ClusterID: clusterA, Token: "t"}); err != nil || r.Session != "t" || r.Mark != 7 {
		t.Errorf("open session: %+v, %v", r, err)
	}
	if r, err := c.State(ctx, &wire.StateRequest{ClusterID: clusterA, Job: "grid"}); err != nil || r.Info.ID != "grid" || len(r.Private) != 1 {
		t.Errorf("state: %+v, %v", r, err)
	}
	if r, err := c.Join(ctx, &wire.JoinRequest{NodeID: "n"}); err != nil || r.ClusterID != clusterA || len(r.Gossip) != 1 {
		t.Errorf("join: %+v, %v", r, err)
	}
	if _, err := c.Control(ctx, &wire.ControlRequest{ClusterID: clusterA, Job: "x"}); !errors.Is(err, cluster.ErrNotFound) || status.Code(err) != codes.NotFound {
		t.Errorf("control: got %v, want ErrNotFound", err)
	}
}

func TestEveryMessageNamesItsCluster(t *testing.T) {
	c, ctx := dial(t, serve(t, &node{})), within(t)
	for _, id := range []string{"", clusterB} {
		_, submit := c.Submit(ctx, &wire.SubmitRequest{ClusterID: id})
		_, control := c.Control(ctx, &wire.ControlRequest{ClusterID: id})
		_, session := c.OpenSession(ctx, &wire.OpenSessionRequest{ClusterID: id})
		_, state := c.State(ctx, &wire.StateRequest{ClusterID: id})
		errs := map[string]error{"submit": submit, "control": control, "session": session, "state": state}
		if s, err := c.Assign(ctx, &wire.AssignRequest{ClusterID: id}); err == nil {
			_, errs["assign"] = s.Recv()
		}
		if s, err := c.Subscribe(ctx, &wire.SubscribeRequest{ClusterID: id}); err == nil {
			_, errs["subscribe"] = s.Recv()
		}
		if s, err := c.Watch(ctx, &wire.WatchRequest{ClusterID: id}); err == nil {
			_, errs["watch"] = s.Recv()
		}
		if s, err := c.Deliver(ctx); err == nil {
			if err := s.Send(&wire.Uplink{Hello: &wire.Hello{ClusterID: id}}); err != nil {
				t.Fatal(err)
			}
			_, errs["deliver"] = s.Recv()
		}
		if len(errs) != 8 {
			t.Errorf("only %d answers", len(errs))
		}
		for name, err := range errs {
			if !errors.Is(err, cluster.ErrForeignCluster) {
				t.Errorf("%s for cluster %q: got %v, want ErrForeignCluster", name, id, err)
			}
		}
	}
	_, err := c.Status(ctx, &wire.StatusRequest{ClusterID: clusterB})
	if want := "another cluster: the message is meant for " + clusterB + ", this node belongs to " + clusterA; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestServerStreams(t *testing.T) {
	n := &node{gone: make(chan struct{})}
	c, ctx := dial(t, serve(t, n)), within(t)

	snaps, err := c.Subscribe(ctx, &wire.SubscribeRequest{ClusterID: clusterA, Job: "grid", After: wire.Position{Version: 10}})
	if err != nil {
		t.Fatal(err)
	}
	for v := range uint64(3) {
		if s, err := snaps.Recv(); err != nil || s.Position.Version != 11+v || len(s.Params) != 3<<20 {
			t.Fatalf("snapshot %d: %v", v, err)
		}
	}
	if _, err := snaps.Recv(); err != io.EOF {
		t.Errorf("at the end: got %v, want io.EOF", err)
	}

	assignments, err := c.Assign(ctx, &wire.AssignRequest{ClusterID: clusterA})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := assignments.Recv(); err != nil || a.Job != "grid" {
		t.Errorf("assignment: %+v, %v", a, err)
	}
	var moved cluster.ErrNotLeader
	if _, err := assignments.Recv(); !errors.As(err, &moved) || moved.Addr != "127.0.0.1:9" {
		t.Errorf("got %v, want ErrNotLeader with the address", err)
	}

	watchCtx, stop := context.WithCancel(ctx)
	rows, err := c.Watch(watchCtx, &wire.WatchRequest{ClusterID: clusterA})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rows.Recv(); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := rows.Recv(); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: got %v, want context.Canceled", err)
	}
	select {
	case <-n.gone:
	case <-ctx.Done():
		t.Error("the server did not notice that the client left")
	}
}

// frozenConn stands for a machine that vanishes: from freeze on, nothing it
// writes arrives and nothing it is sent is read, yet nobody closes anything.
type frozenConn struct {
	net.Conn
	freeze <-chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (c *frozenConn) frozen() bool {
	select {
	case <-c.freeze:
		return true
	default:
		return false
	}
}

func (c *frozenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.frozen() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *frozenConn) Write(p []byte) (int, error) {
	if c.frozen() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *frozenConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestServerNoticesAVanishedClient, which no operating system reports.
func TestServerNoticesAVanishedClient(t *testing.T) {
	n := &node{gone: make(chan struct{})}
	freeze := make(chan struct{})
	c, err := cluster.Dial(serve(t, n), cluster.DialOptions{Dialer: func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		return &frozenConn{Conn: conn, freeze: freeze, closed: make(chan struct{})}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := within(t)
	rows, err := c.Watch(ctx, &wire.WatchRequest{ClusterID: clusterA})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rows.Recv(); err != nil {
		t.Fatal(err)
	}
	close(freeze)
	select {
	case <-n.gone:
	case <-ctx.Done():
		t.Error("the server still waits for the client")
	}
}

func TestDeliver(t *testing.T) {
	c, ctx := dial(t, serve(t, &node{})), within(t)
	s, err := c.Deliver(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send := func(u *wire.Uplink) {
		t.Helper()
		if err := s.Send(u); err != nil {
			t.Fatal(err)
		}
	}
	send(&wire.Uplink{Hello: &wire.Hello{ClusterID: clusterA, Job: "grid", Session: "s"}})
	if d, err := s.Recv(); err != nil || d.Resume != 1 || d.Credit != 100 {
		t.Fatalf("the answer to hello: %+v, %v", d, err)
	}
	for first := uint64(1); first < 7; first += 2 {
		data, err := wire.EncodeBatch(nil, &wire.Batch{
			FirstSeq: first, Lengths: []int32{1, 1}, Actions: []int32{0, 3}, LogReward: []float64{0, 0}, LogBehaviour: []float64{0, 0},
		})
		if err != nil {
			t.Fatal(err)
		}
		send(&wire.Uplink{Batch: data})
		if d, err := s.Recv(); err != nil || d.Mark != first+1 {
			t.Fatalf("the answer to %d: %+v, %v", first, d, err)
		}
	}
	send(&wire.Uplink{Batch: []byte("garbage")})
	if _, err := s.Recv(); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("a garbage batch: got %v, want wire.ErrFrame", err)
	}
}

func TestClientOfNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, addr)
	if c.Addr() != addr {
		t.Errorf("addr is %s, want %s", c.Addr(), addr)
	}
	if _, err := c.Status(within(t), &wire.StatusRequest{}); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	for _, remote := range []string{"10.0.0.1:7000", ":7000", "example.org:7000"} {
		if _, err := cluster.Dial(remote, cluster.DialOptions{}); !errors.Is(err, cluster.ErrNotLoopback) {
			t.Errorf("%s: got %v, want ErrNotLoopback", remote, err)
		}
		if _, err := (cluster.Security{}).Listen(within(t), remote); !errors.Is(err, cluster.ErrNotLoopback) {
			t.Errorf("%s: got %v, want ErrNotLoopback", remote, err)
		}
	}
	if _, err := cluster.Dial("7000", cluster.DialOptions{}); err == nil || !strings.Contains(err.Error(), "want host:port") {
		t.Errorf("got %v", err)
	}
}
