package fanout

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// TestOverGossip: nodes that know each other by gossip only build the tree, and
// an announced version makes them leave a replica that does not have it.
func TestOverGossip(t *testing.T) {
	ctx := within(t)
	join := func(m *cluster.Mesh, seed string) *cluster.Mesh {
		t.Helper()
		t.Cleanup(func() {
			if err := m.Close(context.WithoutCancel(ctx)); err != nil {
				t.Error(err)
			}
		})
		if seed != "" {
			if err := m.Join(ctx, seed); err != nil {
				t.Fatal(err)
			}
		}
		return m
	}
	gossip := func(id, addr string, role cluster.Role, seed string) *cluster.Mesh {
		t.Helper()
		m, err := cluster.NewMesh(cluster.MeshConfig{
			NodeID: id, ClusterID: clusterID, Role: role, Bind: "127.0.0.1:0", GRPCAddr: addr, Preset: cluster.Local(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return join(m, seed)
	}
	newReplica := func(seed string) (*replica, *cluster.Mesh) {
		r := &replica{id: uuid.NewString(), changed: make(chan struct{})}
		r.addr, r.end = serve(t, r)
		r.publish(version(t, 1, 4096, false))
		return r, gossip(r.id, r.addr, cluster.RoleServer, seed)
	}
	_, seed := newReplica("") // it stays at version 1
	var nodes []*member
	for range 6 {
		m := &member{id: uuid.NewString()}
		l, err := cluster.Security{}.Listen(ctx, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		mesh := gossip(m.id, l.Addr().String(), cluster.RoleWorker, seed.Addr())
		m.Node = NewNode(Config{ClusterID: clusterID, Node: m.id, Addr: l.Addr().String(), Mesh: mesh})
		m.stop = serveOn(t, l, m.Node)
		if m.sub, err = m.Subscribe(grid); err != nil {
			t.Fatal(err)
		}
		reading, cancel := context.WithCancel(ctx)
		m.cancel = cancel
		m.reading.Go(func() { m.read(reading, t) })
		t.Cleanup(m.kill)
		nodes = append(nodes, m)
	}
	for _, m := range nodes {
		m.await(t, ctx, 1)
		m.until(t, ctx, "the tree is as planned", func(f *feed) bool {
			following := 0
			for _, p := range f.node.cfg.Mesh.Members() {
				if p.FollowsJob(grid) {
					following++
				}
			}
			return following == len(nodes) && planned(m)(f)
		})
	}
	fresh, mesh := newReplica(seed.Addr())
	fresh.publish(version(t, 2, 4096, false))
	mesh.AnnounceVersion(grid, wire.Position{Version: 2})
	for _, m := range nodes {
		m.await(t, ctx, 2)
	}
}
