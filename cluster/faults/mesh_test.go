package faults

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

type node struct {
	*cluster.Mesh
	net *Network
}

func gossiper(t *testing.T, clusterID string) node {
	t.Helper()
	id := uuid.NewString()
	net := New(id)
	m, err := cluster.NewMesh(cluster.MeshConfig{
		NodeID: id, ClusterID: clusterID, Role: cluster.RoleServer, Bind: "127.0.0.1:0",
		Preset: cluster.Local(), Transport: net.Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	net.Names(Members(m))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
		net.Close()
	})
	return node{m, net}
}

// sees waits until n sees another node in a state.
func (n node) sees(t *testing.T, id string, want cluster.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for m := range n.Events(ctx) {
		if m.ID == id && m.State == want {
			return
		}
	}
	t.Fatalf("%s is not seen %s", id, want)
}

// TestGossipOverACutLink lets a node vanish from gossip and come back.
func TestGossipOverACutLink(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real gossip")
	}
	clusterID := uuid.NewString()
	a, b := gossiper(t, clusterID), gossiper(t, clusterID)
	if err := a.Join(t.Context(), b.Addr()); err != nil {
		t.Fatal(err)
	}
	a.sees(t, b.ID(), cluster.Alive)
	b.sees(t, a.ID(), cluster.Alive)
	// What b sends to a is lost or stalls; what a sends arrives.
	oneWay := wire.LinkFault{From: b.ID(), To: a.ID(), Plane: Gossip, Cut: true}
	for _, n := range []node{a, b} {
		set(t, n.net, oneWay)
	}
	a.sees(t, b.ID(), cluster.Dead)
	for _, n := range []node{a, b} {
		set(t, n.net)
	}
	a.sees(t, b.ID(), cluster.Alive)
	b.sees(t, a.ID(), cluster.Alive)
}

func TestControl(t *testing.T) {
	n := New("a")
	defer n.Close()
	ctx, cancel := context.WithCancel(t.Context())
	at, done, err := Serve(ctx, n, cluster.Security{}, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Dial(at, cluster.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := Control(t.Context(), c, &wire.FaultsRequest{Node: "b"}); !errors.Is(err, cluster.ErrInvalid) {
		t.Errorf("meant for another node: %v", err)
	}
	if _, err := Control(t.Context(), c, &wire.FaultsRequest{Node: "a", Faults: []wire.LinkFault{{From: "a", Cut: true}}}); err != nil {
		t.Error(err)
	}
	if v, _ := n.table.judge(RPC, "a", "b"); !v.cut {
		t.Error("the fault is not in force")
	}
	if _, err := (&packets{nil, n}).WriteTo(nil, "127.0.0.1:1"); err != nil { // lost
		t.Error(err)
	}
	if reply, err := Control(t.Context(), c, &wire.FaultsRequest{Node: "a"}); err != nil || reply.Struck != 1 {
		t.Errorf("%+v, %v: one datagram was lost", reply, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
