package cluster_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clusterA = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	clusterB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
	patience = 15 * time.Second // until a test gives up waiting
)

// quick is Local with shorter rounds, so that tests wait less.
func quick() cluster.Preset {
	p := cluster.Local()
	p.ProbeInterval, p.ProbeTimeout = 100*time.Millisecond, 80*time.Millisecond
	p.GossipInterval = 20 * time.Millisecond
	p.PushPull = 500 * time.Millisecond
	p.Rejoin = 50 * time.Millisecond
	return p
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func config(clusterID string, role cluster.Role) cluster.MeshConfig {
	c := cluster.MeshConfig{
		NodeID: uuid.NewString(), ClusterID: clusterID, Role: role,
		Bind: "127.0.0.1:0", GRPCAddr: "127.0.0.1:7001", Slots: 2, Preset: quick(),
	}
	if role == cluster.RoleServer {
		c.RaftAddr = "127.0.0.1:7002"
	}
	return c
}

func start(t *testing.T, c cluster.MeshConfig) *cluster.Mesh {
	t.Helper()
	m, err := cluster.NewMesh(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { crash(t, m) })
	return m
}

// crash stops a mesh without a good-bye.
func crash(t *testing.T, m *cluster.Mesh) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Error(err)
	}
}

// await reads m's events until the member is in that state.
func await(t *testing.T, m *cluster.Mesh, id string, state cluster.State) cluster.Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for p := range m.Events(ctx) {
		if p.ID == id && p.State == state {
			return p
		}
	}
	t.Fatalf("%s never saw %s %s; it sees %+v", m.ID(), id, state, m.Members())
	panic("unreachable")
}

func TestNodesFindEachOther(t *testing.T) {
	var nodes []*cluster.Mesh
	for _, role := range []cluster.Role{cluster.RoleServer, cluster.RoleServer, cluster.RoleWorker} {
		nodes = append(nodes, start(t, config(clusterA, role)))
	}
	// A chain of introductions: gossip does the rest.
	for i := range 2 {
		if err := nodes[i+1].Join(within(t), nodes[i].Addr()); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range nodes {
		for _, other := range nodes {
			got := await(t, m, other.ID(), cluster.Alive)
			if got.GRPCAddr != "127.0.0.1:7001" || got.Slots != 2 || got.GossipAddr != other.Addr() || got.Protocol != cluster.ProtocolVersion {
				t.Errorf("%s knows %+v", m.ID(), got)
			}
		}
		if n := len(m.Members()); n != 3 {
			t.Errorf("%d members, want 3", n)
		}
	}
	if addr, ok := nodes[2].Resolve(nodes[0].ID()); !ok || addr != "127.0.0.1:7002" {
		t.Errorf("a server's raft address is %q, %v", addr, ok)
	}
	if addr, ok := nodes[0].Resolve(nodes[2].ID()); ok {
		t.Errorf("a worker has the raft address %q", addr)
	}
	info := await(t, nodes[0], nodes[2].ID(), cluster.Alive).Info()
	if want := (wire.MemberInfo{ID: nodes[2].ID(), Role: "worker", Addr: "127.0.0.1:7001", Alive: true, Slots: 2}); info != want {
		t.Errorf("info is %+v, want %+v", info, want)
	}

	// One leaves, one dies: the third can tell which did what.
	if err := nodes[2].Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := nodes[2].Leave(within(t)); err != nil {
		t.Errorf("leaving twice: %v", err)
	}
	await(t, nodes[0], nodes[2].ID(), cluster.Left)
	crash(t, nodes[1])
	await(t, nodes[0], nodes[1].ID(), cluster.Dead)
	if addr, ok := nodes[0].Resolve(nodes[1].ID()); !ok || addr == "" {
		t.Error("the raft address of a dead server is forgotten")
	}
}

func TestHintsSpread(t *testing.T) {
	a, b := start(t, config(clusterA, cluster.RoleServer)), start(t, config(clusterA, cluster.RoleWorker))
	if err := b.Join(within(t), a.Addr()); err != nil {
		t.Fatal(err)
	}
	c := start(t, config(clusterA, cluster.RoleWorker))
	if err := c.Join(within(t), b.Addr()); err != nil {
		t.Fatal(err)
	}
	for v := range uint64(500) {
		a.AnnounceVersion("grid", wire.Position{Version: v + 1})
	}
	want := wire.Position{Version: 500}
	for _, m := range []*cluster.Mesh{a, b, c} {
		ctx := within(t)
		for {
			hints, changed := m.Hints()
			if hints["grid"] == want {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("%s knows %v, want %v", m.ID(), hints, want)
			}
		}
	}
	a.AnnounceVersion("grid", wire.Position{Version: 3}) // older: nothing
	if hints, _ := a.Hints(); hints["grid"] != want {
		t.Errorf("a hint went back to %v", hints["grid"])
	}
}

// logLines is a log whose lines a test can wait for.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default: // more than a test reads
	}
	return len(p), nil
}

// await reads lines until one holds every part.
func (l logLines) await(t *testing.T, parts ...string) {
	t.Helper()
	ctx := within(t)
	var read []string
	for {
		select {
		case line := <-l:
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				return
			}
			read = append(read, line)
		case <-ctx.Done():
			t.Fatalf("the log says %q, want a line with %q", read, parts)
		}
	}
}

func TestForeignClusterIsRefused(t *testing.T) {
	log := make(logLines, 64)
	cfg := config(clusterA, cluster.RoleServer)
	cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	home := start(t, cfg)
	stranger := start(t, config(clusterB, cluster.RoleWorker))
	err := stranger.Join(within(t), home.Addr())
	if !errors.Is(err, cluster.ErrForeignCluster) {
		t.Fatalf("got %v, want ErrForeignCluster", err)
	}
	want := "cluster: join: another cluster: node " + home.ID() + " at " + home.Addr() + " belongs to " + clusterA + ", this node to " + clusterB
	if err.Error() != want {
		t.Errorf("got  %q\nwant %q", err, want)
	}
	// Home answers the stranger before it judges it, on a goroutine of that
	// connection: its log says when it has.
	log.await(t, "refused to merge with another mesh", clusterB)
	friend := start(t, config(clusterA, cluster.RoleWorker))
	if err := friend.Join(within(t), home.Addr()); err != nil {
		t.Fatal(err)
	}
	await(t, home, friend.ID(), cluster.Alive)
	for _, m := range []*cluster.Mesh{home, stranger} {
		for _, p := range m.Members() {
			if (p.ID == stranger.ID()) != (m == stranger) {
				t.Errorf("%s has the member %+v", m.ID(), p)
			}
		}
	}
}

// TestRestartedServerIsFoundAgain: it comes back on its old address, knowing
// nobody; those that lost it look for it.
func TestRestartedServerIsFoundAgain(t *testing.T) {
	cfg := config(clusterA, cluster.RoleServer)
	server, worker := start(t, cfg), start(t, config(clusterA, cluster.RoleWorker))
	if err := worker.Join(within(t), server.Addr()); err != nil {
		t.Fatal(err)
	}
	crash(t, server)
	await(t, worker, server.ID(), cluster.Dead)

	cfg.Bind = server.Addr()
	again := start(t, cfg)
	await(t, worker, server.ID(), cluster.Alive)
	await(t, again, worker.ID(), cluster.Alive)
}

// TestMovedServerKeepsItsID: the same, on another port, and it knows a member.
func TestMovedServerKeepsItsID(t *testing.T) {
	cfg := config(clusterA, cluster.RoleServer)
	server, worker := start(t, cfg), start(t, config(clusterA, cluster.RoleWorker))
	if err := worker.Join(within(t), server.Addr()); err != nil {
		t.Fatal(err)
	}
	crash(t, server)
	cfg.GRPCAddr = "127.0.0.1:7777"
	again := start(t, cfg)
	if err := again.Join(within(t), worker.Addr()); err != nil {
		t.Fatal(err)
	}
	ctx := within(t)
	for p := range worker.Events(ctx) {
		if p.ID == again.ID() && p.State == cluster.Alive && p.GossipAddr == again.Addr() {
			if p.GRPCAddr != cfg.GRPCAddr {
				t.Errorf("it serves at %s, want %s", p.GRPCAddr, cfg.GRPCAddr)
			}
			return
		}
	}
	t.Fatalf("the new address was never taken; members %+v", worker.Members())
}

func TestGossipPortSurvivesGarbage(t *testing.T) {
	home := start(t, config(clusterA, cluster.RoleServer))
	r := rand.New(rand.NewPCG(1, 2))
	udp, err := net.Dial("udp", home.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	garbage := func(most int) []byte {
		b := make([]byte, 1+r.IntN(most))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0] %= 16 // a message type that exists, mostly
		return b
	}
	for range 2000 {
		if _, err := udp.Write(garbage(300)); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		tcp, err := net.Dial("tcp", home.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tcp.Write(garbage(300)); err != nil {
			t.Fatal(err)
		}
		if err := tcp.Close(); err != nil {
			t.Fatal(err)
		}
	}
	friend := start(t, config(clusterA, cluster.RoleWorker))
	if err := friend.Join(within(t), home.Addr()); err != nil {
		t.Fatal(err)
	}
	await(t, home, friend.ID(), cluster.Alive)
	if n := len(home.Members()); n != 2 {
		t.Errorf("%d members, want 2: %+v", n, home.Members())
	}
}

func TestMeshConfigIsChecked(t *testing.T) {
	var fe *fielderr.Error
	for name, c := range map[string]struct {
		spoil func(*cluster.MeshConfig)
		field string // "" for ErrNotLoopback
	}{
		"no node":            {func(c *cluster.MeshConfig) { c.NodeID = "" }, "node_id"},
		"no cluster":         {func(c *cluster.MeshConfig) { c.ClusterID = "" }, "cluster_id"},
		"no role":            {func(c *cluster.MeshConfig) { c.Role = "" }, "role"},
		"no preset":          {func(c *cluster.MeshConfig) { c.Preset = cluster.Preset{} }, "preset"},
		"port":               {func(c *cluster.MeshConfig) { c.Bind = "127.0.0.1:70000" }, "bind"},
		"bind everywhere":    {func(c *cluster.MeshConfig) { c.Bind = "0.0.0.0:0" }, ""},
		"bind everywhere, 2": {func(c *cluster.MeshConfig) { c.Bind = ":0" }, ""},
		"advertise":          {func(c *cluster.MeshConfig) { c.Advertise = "10.0.0.1:1" }, ""},
		"grpc":               {func(c *cluster.MeshConfig) { c.GRPCAddr = "10.0.0.1:1" }, ""},
		"raft":               {func(c *cluster.MeshConfig) { c.RaftAddr = "example.org:1" }, ""},
	} {
		cfg := config(clusterA, cluster.RoleServer)
		c.spoil(&cfg)
		_, err := cluster.NewMesh(cfg)
		switch {
		case c.field == "" && !errors.Is(err, cluster.ErrNotLoopback):
			t.Errorf("%s: got %v, want ErrNotLoopback", name, err)
		case c.field != "" && (!errors.As(err, &fe) || fe.Path != c.field):
			t.Errorf("%s: got %v, want a fault of %s", name, err, c.field)
		}
	}
	cfg := config(clusterA, cluster.RoleServer)
	cfg.Bind = "192.168.1.5:7946"
	want := `bind: cluster: address "192.168.1.5:7946": not a loopback address: links are neither encrypted nor authenticated yet, so a node stays on its own machine; use 127.0.0.1 or [::1]`
	if _, err := cluster.NewMesh(cfg); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, err := cluster.PresetByName("wan"); !errors.As(err, &fe) {
		t.Errorf("preset wan: got %v", err)
	}
	for _, name := range []string{"local", "lan"} {
		if p, err := cluster.PresetByName(name); err != nil || p.Name != name {
			t.Errorf("preset %s: got %+v, %v", name, p, err)
		}
	}
}

func TestCloseWhileLeaving(t *testing.T) {
	a, b := start(t, config(clusterA, cluster.RoleServer)), start(t, config(clusterA, cluster.RoleWorker))
	if err := b.Join(within(t), a.Addr()); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.Leave(gone); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if err := b.Close(gone); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	crash(t, b) // this time with patience
	await(t, a, b.ID(), cluster.Left)
}

func TestClosedMesh(t *testing.T) {
	m := start(t, config(clusterA, cluster.RoleWorker))
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Join(within(t), nobody.Addr().String()); err == nil {
		t.Error("joining nobody succeeded")
	}
	if err := m.Join(within(t), "10.0.0.1:1"); !errors.Is(err, cluster.ErrNotLoopback) {
		t.Errorf("got %v, want ErrNotLoopback", err)
	}
	events := m.Events(context.Background())
	<-events // itself
	crash(t, m)
	crash(t, m) // twice is once
	if p, open := <-events; open {
		t.Errorf("an event after the close: %+v", p)
	}
	if _, open := <-m.Events(context.Background()); open {
		t.Error("events of a closed mesh")
	}
	if err := m.Join(within(t), "127.0.0.1:1"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
	if err := m.Leave(within(t)); err != nil {
		t.Errorf("leaving a closed mesh: %v", err)
	}
}
