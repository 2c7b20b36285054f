package fanout

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clusterID = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	grid      = "grid"
	patience  = 60 * time.Second // until a test gives up
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// directory stands for gossip: one view of the members that all share, at once.
type directory struct {
	mu      sync.Mutex
	members map[string]cluster.Member
	hints   map[string]wire.Position
	changed chan struct{} // closed and renewed when members change
	hinted  chan struct{}
	ids     int
}

// newID returns the same IDs in each run, so that each has the same tree.
func (d *directory) newID() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids++
	return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, d.ids)).String()
}

func newDirectory() *directory {
	return &directory{members: map[string]cluster.Member{}, hints: map[string]wire.Position{}, changed: make(chan struct{}), hinted: make(chan struct{})}
}

func (d *directory) put(m cluster.Member) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.members[m.ID] = m
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *directory) announce(p wire.Position) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hints[grid] = p
	close(d.hinted)
	d.hinted = make(chan struct{})
}

// seat is one node's Membership. hides are members that it does not see.
type seat struct {
	*directory
	id    string
	hides []string
}

func (s seat) Members() []cluster.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []cluster.Member
	for _, id := range slices.Sorted(maps.Keys(s.members)) {
		if !slices.Contains(s.hides, id) {
			out = append(out, s.members[id])
		}
	}
	return out
}

func (s seat) Events(ctx context.Context) <-chan cluster.Member {
	out := make(chan cluster.Member)
	go func() { // ends with ctx, which the node's Close ends
		defer close(out)
		for {
			s.mu.Lock()
			changed := s.changed
			s.mu.Unlock()
			select {
			case out <- cluster.Member{}:
			case <-ctx.Done():
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (s seat) Hints() (map[string]wire.Position, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.hints), s.hinted
}

func (s seat) SetFollows(jobs []string) error {
	s.mu.Lock()
	m := s.members[s.id]
	s.mu.Unlock()
	m.Follows = marks(jobs...)
	s.put(m)
	return nil
}

func marks(jobs ...string) string {
	var b strings.Builder
	for _, j := range jobs {
		sum := sha256.Sum256([]byte(j))
		b.Write(sum[:4])
	}
	return b.String()
}

// replica is a server: what it offers is what the test publishes.
type replica struct {
	id, addr string
	sent     Egress
	end      func()

	mu      sync.Mutex
	newest  *Snapshot
	changed chan struct{}
}

func (r *replica) Offer(context.Context, string) (Offer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Offer{Snapshot: r.newest, Route: []string{r.id}, Changed: r.changed}, nil
}

func (r *replica) Follow(req *wire.FollowRequest, stream grpc.ServerStreamingServer[wire.FollowReply]) error {
	return Send(r, &r.sent, req, stream)
}

func (r *replica) publish(s *Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newest = s
	close(r.changed)
	r.changed = make(chan struct{})
}

func startReplica(t *testing.T, d *directory) *replica {
	t.Helper()
	r := &replica{id: d.newID(), changed: make(chan struct{})}
	r.addr, r.end = serve(t, r)
	d.put(cluster.Member{ID: r.id, Role: cluster.RoleServer, GRPCAddr: r.addr, State: cluster.Alive})
	return r
}

// serve offers a service on loopback until the returned function, or the test,
// ends it.
func serve(t *testing.T, impl cluster.ParametersServer) (addr string, end func()) {
	t.Helper()
	l, err := cluster.Security{}.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), serveOn(t, l, impl)
}

func serveOn(t *testing.T, l net.Listener, impl cluster.ParametersServer) (end func()) {
	rpc := cluster.NewServer(cluster.ServerOptions{ClusterID: func() string { return clusterID }})
	cluster.RegisterParameters(rpc, impl)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := rpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	end = func() { rpc.Stop(); wg.Wait() }
	t.Cleanup(end)
	return end
}

// version makes a snapshot whose bytes are all different from those of others.
func version(t *testing.T, v uint64, size int, final bool) *Snapshot {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i*7+int(v)) & 0x3f // finite as float32
	}
	sum := sha256.Sum256(data)
	s, err := NewSnapshot(wire.Head{Job: grid, Position: wire.Position{Version: v}, Encoding: wire.Float32, Final: final}, data, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// member is a worker node with one reader of the job.
type member struct {
	*Node
	id      string
	sub     *Subscription
	reading sync.WaitGroup
	cancel  context.CancelFunc
	stop    func() // its server

	mu   sync.Mutex
	seen []wire.Position
}

func startMember(t *testing.T, d *directory, cache *Cache, hides ...string) *member {
	t.Helper()
	m := &member{id: d.newID()}
	l, err := cluster.Security{}.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	group := ""
	if cache != nil {
		group = cache.ID()
	}
	d.put(cluster.Member{ID: m.id, Role: cluster.RoleWorker, GRPCAddr: l.Addr().String(), Group: group, State: cluster.Alive})
	m.Node = NewNode(Config{ClusterID: clusterID, Node: m.id, Addr: l.Addr().String(), Mesh: seat{d, m.id, hides}, Cache: cache})
	m.stop = serveOn(t, l, m.Node)
	if m.sub, err = m.Subscribe(grid); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m.cancel = cancel
	m.reading.Go(func() { m.read(ctx, t) })
	t.Cleanup(m.kill)
	return m
}

// read checks what the reader sees: each version once, in order, whole.
func (m *member) read(ctx context.Context, t *testing.T) {
	for {
		s, changed := m.sub.Latest()
		if s != nil {
			m.mu.Lock()
			if n := len(m.seen); n == 0 || m.seen[n-1] != s.Position() {
				if n > 0 && !m.seen[n-1].Before(s.Position()) {
					t.Errorf("a reader went from %+v to %+v", m.seen[n-1], s.Position())
				}
				if sum := sha256.Sum256(s.Data); string(sum[:]) != string(s.Head.Hash) {
					t.Errorf("version %d is not what its hash says", s.Position().Version)
				}
				m.seen = append(m.seen, s.Position())
			}
			m.mu.Unlock()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// kill ends the node without a word to the others.
func (m *member) kill() {
	m.stop()
	m.cancel()
	m.reading.Wait()
	m.sub.Close()
	m.Close()
}

// await waits until the reader has a version, or a newer one.
func (m *member) await(t *testing.T, ctx context.Context, v uint64) {
	t.Helper()
	for {
		s, changed := m.sub.Latest()
		if s != nil && s.Position().Version >= v {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("gave up waiting for version %d; newest is %v", v, s)
		}
	}
}

// until waits for a condition on what the node has of the job.
func (m *member) until(t *testing.T, ctx context.Context, what string, ready func(*feed) bool) {
	t.Helper()
	f := m.sub.feed
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		members := m.members()
		if ready(f) {
			return
		}
		select {
		case <-changed:
		case <-members:
		case <-ctx.Done():
			_, route := f.present()
			t.Fatalf("gave up waiting until %s; route %v", what, route)
		}
	}
}

func (m *member) String() string { return fmt.Sprint("node ", m.id) }

// epoch is when time begins in tests that have none of their own.
var epoch = time.Unix(1_700_000_000, 0)

func duration(t *rapid.T) time.Duration {
	return time.Duration(rapid.Int64Range(0, int64(5*time.Second)).Draw(t, "nanoseconds"))
}
