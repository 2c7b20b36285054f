package fanout

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

func openCache(t *testing.T, dir string) *Cache {
	t.Helper()
	c, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOneCopyPerMachine: processes that share a cache take one copy from the
// mesh, and another one goes on when the holder dies.
func TestOneCopyPerMachine(t *testing.T) {
	const size = 64 << 10
	d, ctx, dir := newDirectory(), within(t), t.TempDir()
	r := startReplica(t, d)
	r.publish(version(t, 1, size, false))
	nodes := make([]*member, 4)
	for i := range nodes {
		nodes[i] = startMember(t, d, openCache(t, dir))
		nodes[i].await(t, ctx, 1)
	}
	holder := nodes[0] // it was there first
	if !holder.sub.feed.holds() {
		t.Fatal("the first process does not hold the job")
	}
	publish := func(nodes []*member, from, to uint64) {
		t.Helper()
		for v := from; v <= to; v++ {
			r.publish(version(t, v, size, false))
			for _, m := range nodes {
				m.await(t, ctx, v)
			}
		}
	}
	publish(nodes, 2, 6)
	if got := r.sent.Bytes(); got != 6*size {
		t.Errorf("the replica sent %d bytes for 6 versions of %d", got, size)
	}
	if got := holder.Egress().Counts()[wire.PeerLocal]; got.Bytes != 0 || got.Heads < 15 {
		t.Errorf("the holder sent %d bytes and %d heads to its neighbours; want none and 5 or more each", got.Bytes, got.Heads)
	}
	files, err := filepath.Glob(filepath.Join(openCache(t, dir).dir, "*-6-*"))
	if err != nil || len(files) != 1 {
		t.Errorf("files of version 6: %v, %v", files, err)
	}
	if files, _ = filepath.Glob(filepath.Join(openCache(t, dir).dir, prefix(grid)+"-*")); len(files) > keptFiles {
		t.Errorf("%d snapshots are kept: %v", len(files), files)
	}

	holder.kill()
	began := time.Now()
	rest := nodes[1:]
	publish(rest, 7, 7)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v to go on without the holder", took)
	}
	holds := func() (n int) {
		for _, m := range rest {
			if m.sub.feed.holds() {
				n++
			}
		}
		return n
	}
	if holds() != 1 {
		t.Errorf("%d processes hold the job", holds())
	}
	before := r.sent.Bytes()
	publish(rest, 8, 10)
	if got := r.sent.Bytes() - before; got > 3*size {
		t.Errorf("the replica sent %d bytes for 3 versions of %d after the holder's death", got, size)
	}
}

// hung is a process that holds the cache and says nothing.
type hung struct{}

func (hung) Follow(_ *wire.FollowRequest, stream grpc.ServerStreamingServer[wire.FollowReply]) error {
	<-stream.Context().Done()
	return nil
}

// TestAHungHolderIsPassedOver: its lock cannot be had, so the others take the
// parameters themselves.
func TestAHungHolderIsPassedOver(t *testing.T) {
	d, ctx, dir := newDirectory(), within(t), t.TempDir()
	r := startReplica(t, d)
	r.publish(version(t, 1, 4096, false))
	addr, _ := serve(t, hung{})
	h, err := openCache(t, dir).hold(grid, addr)
	if err != nil {
		t.Fatal(err)
	}
	m := startMember(t, d, openCache(t, dir))
	m.await(t, ctx, 1)
	if m.sub.feed.holds() {
		t.Error("two processes hold the job")
	}
	// Once it is gone, the next look at the mesh finds the lock free.
	if err := h.release(); err != nil {
		t.Fatal(err)
	}
	r.publish(version(t, 2, 4096, false))
	d.announce(wire.Position{Version: 2})
	m.until(t, ctx, "it holds the job", func(f *feed) bool { return f.holds() })
	m.await(t, ctx, 2)
}

// TestACacheMustBeItsUsersOwn.
func TestACacheMustBeItsUsersOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	a, b := openCache(t, dir), openCache(t, dir)
	if a.ID() != b.ID() || a.ID() == "" {
		t.Errorf("one folder is %q and %q", a.ID(), b.ID())
	}
	if err := os.Chmod(a.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCache(dir); err == nil || !strings.Contains(err.Error(), "others may write to "+a.dir) {
		t.Errorf("a folder that anyone may write to: %v", err)
	}
	if err := os.Remove(filepath.Join(a.dir, "id")); err != nil {
		t.Fatal(err)
	}
}

// TestAFileIsReadWithinTheCacheOnly, whatever the holder says.
func TestAFileIsReadWithinTheCacheOnly(t *testing.T) {
	c := openCache(t, t.TempDir())
	for _, file := range []string{"../" + prefix(grid) + "-1", "/etc/passwd", "id", prefix("other") + "-1-1-00"} {
		if _, err := c.open(grid, file, 4); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("%s: %v, want wire.ErrFrame", file, err)
		}
	}
	h, err := c.hold(grid, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	name, err := h.write(version(t, 1, 8, false))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.open(grid, name, 12); !errors.Is(err, ErrWrongBytes) {
		t.Errorf("another size: %v, want ErrWrongBytes", err)
	}
	if data, err := c.open(grid, name, 8); err != nil || len(data) != 8 {
		t.Errorf("%v, %v", data, err)
	}
	if err := h.release(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.write(version(t, 2, 8, false)); err == nil {
		t.Error("a released holder writes")
	}
}

// forger sends bytes that are not what their hash says.
type forger struct{ s *Snapshot }

func (f forger) Follow(_ *wire.FollowRequest, stream grpc.ServerStreamingServer[wire.FollowReply]) error {
	data := append([]byte(nil), f.s.Data...)
	data[0] ^= 1
	if err := stream.Send(&wire.FollowReply{Route: []string{"r", "g"}, Head: &f.s.Head, Part: data}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// TestWrongBytesAreNotUsed: the node that sent them is passed over.
func TestWrongBytesAreNotUsed(t *testing.T) {
	d, ctx := newDirectory(), within(t)
	bad := &replica{id: d.newID()}
	bad.addr, bad.end = serve(t, forger{version(t, 9, 4096, false)})
	d.put(cluster.Member{ID: bad.id, Role: cluster.RoleServer, GRPCAddr: bad.addr, State: cluster.Alive})
	good := startReplica(t, d)
	good.publish(version(t, 1, 4096, false))
	for range 4 { // the order of replicas is each node's own
		m := startMember(t, d, nil)
		m.await(t, ctx, 1)
		if s, _ := m.sub.Latest(); s.Position().Version != 1 {
			t.Errorf("version %d was taken", s.Position().Version)
		}
	}
}

// TestAJobsEndReachesEveryone, and a job that is not there is an error.
func TestAJobsEndReachesEveryone(t *testing.T) {
	d, ctx := newDirectory(), within(t)
	r := startReplica(t, d)
	r.publish(version(t, 1, 4096, false))
	nodes := make([]*member, 7)
	for i := range nodes {
		nodes[i] = startMember(t, d, nil)
	}
	for _, m := range nodes {
		m.await(t, ctx, 1)
	}
	r.publish(version(t, 2, 4096, true))
	for _, m := range nodes {
		select {
		case <-m.sub.Ended():
		case <-ctx.Done():
			t.Fatal("a node does not know that the job is over")
		}
		if s, _ := m.sub.Latest(); m.sub.Err() != nil || !s.Head.Final || s.Position().Version != 2 {
			t.Errorf("ended with %v at %+v", m.sub.Err(), s.Head)
		}
	}
	none := newDirectory()
	id := none.newID()
	addr, _ := serve(t, missing{})
	none.put(cluster.Member{ID: id, Role: cluster.RoleServer, GRPCAddr: addr, State: cluster.Alive})
	m := startMember(t, none, nil)
	select {
	case <-m.sub.Ended():
	case <-ctx.Done():
		t.Fatal("no end of a job that is not there")
	}
	if !errors.Is(m.sub.Err(), cluster.ErrNotFound) {
		t.Errorf("ended with %v", m.sub.Err())
	}
}

type missing struct{}

func (missing) Follow(req *wire.FollowRequest, _ grpc.ServerStreamingServer[wire.FollowReply]) error {
	return cluster.ErrNotFound
}

// TestReadersShareOneVector: what a further reader costs does not grow with the
// parameters.
func TestReadersShareOneVector(t *testing.T) {
	d, ctx := newDirectory(), within(t)
	r := startReplica(t, d)
	r.publish(version(t, 1, 4<<20, false))
	m := startMember(t, d, nil)
	m.await(t, ctx, 1)
	s, _ := m.sub.Latest()
	want, err := s.Params()
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		sub, err := m.Subscribe(grid)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		other, _ := sub.Latest()
		got, err := other.Params()
		if err != nil || &got[0] != &want[0] {
			t.Fatalf("a vector of its own, %v", err)
		}
	}
	if r.sent.Counts()[wire.PeerWorker].Heads != 1 {
		t.Errorf("%d heads for one process", r.sent.Counts()[wire.PeerWorker].Heads)
	}
}
