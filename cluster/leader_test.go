package cluster_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

func newLeader(t *testing.T, addrs ...string) *cluster.Leader {
	t.Helper()
	l := cluster.NewLeader(clusterA, func() []string { return addrs }, cluster.DialOptions{})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// deadAddr is an address where nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (n *node) follow(leader string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leader = leader
}

var request = &wire.SubmitRequest{ClusterID: clusterA, Spec: []byte("grid")}

func TestCallFindsTheLeader(t *testing.T) {
	follower, leader := &node{}, &node{}
	followerAddr, leaderAddr := serve(t, follower), serve(t, leader)
	follower.follow(leaderAddr)
	follower.submit = func(*wire.SubmitRequest) (*wire.SubmitReply, error) {
		t.Error("a request was sent to a follower")
		return nil, cluster.ErrNotLeader{}
	}
	l := newLeader(t, deadAddr(t), followerAddr)
	r, err := cluster.Call(within(t), l, (*cluster.Client).Submit, request)
	if err != nil || r.Job != "grid" {
		t.Fatalf("got %+v, %v", r, err)
	}
	if c, err := l.Find(within(t)); err != nil || c.Addr() != leaderAddr {
		t.Errorf("the leader is taken to be %v, %v", c, err)
	}
}

// TestCallFollowsTheLeader: it steps down between two calls, and while nobody
// leads the call waits.
func TestCallFollowsTheLeader(t *testing.T) {
	a, b := &node{}, &node{}
	aAddr, bAddr := serve(t, a), serve(t, b)
	a.follow(aAddr)
	b.follow(aAddr)
	l := newLeader(t, aAddr, bAddr)
	if _, err := cluster.Call(within(t), l, (*cluster.Client).Submit, request); err != nil {
		t.Fatal(err)
	}
	refusals := 0
	a.mu.Lock()
	a.leader = ""
	a.submit = func(*wire.SubmitRequest) (*wire.SubmitReply, error) {
		refusals++
		b.follow(bAddr) // elected meanwhile
		return nil, cluster.ErrNotLeader{}
	}
	a.mu.Unlock()
	b.follow("")
	if _, err := cluster.Call(within(t), l, (*cluster.Client).Submit, request); err != nil {
		t.Fatal(err)
	}
	if refusals != 1 {
		t.Errorf("the old leader was asked %d times, want 1", refusals)
	}
	// A redirect is followed without a search.
	a.mu.Lock()
	a.submit = func(*wire.SubmitRequest) (*wire.SubmitReply, error) { return nil, cluster.ErrNotLeader{Addr: bAddr} }
	a.mu.Unlock()
	l.Learn(aAddr)
	if _, err := cluster.Call(within(t), l, (*cluster.Client).Submit, request); err != nil {
		t.Fatal(err)
	}
}

// TestCallRepeatsOnlyDefiniteRefusals: a request that may have taken effect is
// the caller's to repeat.
func TestCallRepeatsOnlyDefiniteRefusals(t *testing.T) {
	for _, unknown := range []error{cluster.ErrUnavailable, cluster.ErrOutcomeUnknown} {
		n := &node{}
		addr := serve(t, n)
		n.follow(addr)
		calls := 0
		n.submit = func(*wire.SubmitRequest) (*wire.SubmitReply, error) {
			if calls++; calls == 1 {
				return nil, unknown
			}
			return &wire.SubmitReply{}, nil
		}
		l := newLeader(t, addr)
		if _, err := cluster.Call(within(t), l, (*cluster.Client).Submit, request); !errors.Is(err, unknown) || calls != 1 {
			t.Errorf("got %v after %d calls, want %v after 1", err, calls, unknown)
		}
		calls = 0
		if _, err := cluster.CallIdempotent(within(t), l, (*cluster.Client).Submit, request); err != nil || calls != 2 {
			t.Errorf("idempotent: got %v after %d calls, want success after 2", err, calls)
		}
	}
}

func TestCallGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	asked := 0
	l := cluster.NewLeader(clusterA, func() []string {
		if asked++; asked == 3 {
			cancel()
		}
		return nil
	}, cluster.DialOptions{})
	_, err := cluster.Call(ctx, l, (*cluster.Client).Submit, request)
	if !errors.Is(err, context.Canceled) || err.Error() != "cluster: find the leader: context canceled (last: no server is known)" {
		t.Errorf("got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Client("127.0.0.1:1"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("a closed leader: got %v", err)
	}

	// Servers of another cluster only: waiting cannot help.
	addr := serve(t, &node{})
	foreign := cluster.NewLeader(clusterB, func() []string { return []string{addr} }, cluster.DialOptions{})
	defer foreign.Close()
	if _, err := foreign.Find(within(t)); !errors.Is(err, cluster.ErrForeignCluster) {
		t.Errorf("got %v, want ErrForeignCluster", err)
	}
}
