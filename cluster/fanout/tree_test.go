package fanout

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// planned says whether a node takes the job from where the plan has it.
func planned(m *member) func(*feed) bool {
	return func(f *feed) bool {
		plan := Plan(grid, f.node.group(), "", f.node.cfg.Mesh.Members())
		_, route := f.present()
		return len(route) >= 2 && route[len(route)-2] == plan[0].Node
	}
}

// TestEgressDoesNotGrowWithTheNodes: replicas send at most FanOut copies of a
// version, whether 4, 16 or 48 nodes want it, and every node sees versions in
// order.
func TestEgressDoesNotGrowWithTheNodes(t *testing.T) {
	const size, versions = 64 << 10, 20
	for _, n := range []int{4, 16, 48} {
		t.Run(fmt.Sprint(n, " nodes"), func(t *testing.T) {
			d, ctx := newDirectory(), within(t)
			replicas := []*replica{startReplica(t, d), startReplica(t, d), startReplica(t, d)}
			publish := func(v uint64) {
				for _, r := range replicas {
					r.publish(version(t, v, size, false))
				}
			}
			publish(1)
			nodes := make([]*member, n)
			for i := range nodes {
				nodes[i] = startMember(t, d, nil)
			}
			for _, m := range nodes {
				m.await(t, ctx, 1)
				m.until(t, ctx, "the tree is as planned", planned(m))
			}
			total := func() (sum uint64) {
				for _, r := range replicas {
					sum += r.sent.Bytes()
				}
				return sum
			}
			start := total()
			for v := uint64(2); v < 2+versions; v++ {
				publish(v)
				for _, m := range nodes {
					m.await(t, ctx, v)
				}
			}
			sent := total() - start
			t.Logf("%d nodes: %.2f copies a version, %.1f while the tree was built", n, float64(sent)/size/versions, float64(start)/size)
			// A node that a busy machine keeps waiting for a second asks elsewhere: one or
			// two copies in all, where growth would be one for each node and version.
			if sent > (FanOut*versions+versions/4)*size {
				t.Errorf("%d bytes for %d versions of %d; want %d copies each, a few more in all", sent, versions, size, FanOut)
			}
			used := 0
			for _, r := range replicas {
				if r.sent.Bytes() > 0 {
					used++
				}
			}
			if used < 2 {
				t.Errorf("all bytes came from one of %d replicas", len(replicas))
			}
			depth := 0
			for _, m := range nodes {
				_, route := m.sub.feed.present()
				depth = max(depth, len(route)-1)
			}
			if n == 48 && depth > 3 { // 4, 16, 64
				t.Errorf("%d hops to the last of %d nodes", depth, n)
			}
		})
	}
}

// TestChildrenOfADeadNodeRecover although gossip still shows it alive.
func TestChildrenOfADeadNodeRecover(t *testing.T) {
	d, ctx := newDirectory(), within(t)
	r := startReplica(t, d)
	r.publish(version(t, 1, 4096, false))
	nodes := make([]*member, 16)
	for i := range nodes {
		nodes[i] = startMember(t, d, nil)
	}
	for _, m := range nodes {
		m.until(t, ctx, "the tree is as planned", planned(m))
	}
	// An interior node: one that is somebody's parent.
	interior := slices.IndexFunc(nodes, func(m *member) bool {
		return slices.ContainsFunc(nodes, func(child *member) bool {
			_, route := child.sub.feed.present()
			return len(route) > 2 && route[len(route)-2] == m.id
		})
	})
	if interior < 0 {
		t.Fatal("no interior node among 16")
	}
	nodes[interior].kill()
	began := time.Now()
	r.publish(version(t, 2, 4096, false))
	soon, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	for i, m := range nodes {
		if i != interior {
			m.await(t, soon, 2)
		}
	}
	t.Logf("all others have the next version after %v", time.Since(began))
}

// TestASlowParentIsLeft: it is connected and alive, but what gossip announced
// does not come. A node that hangs from the start is left after its silence.
func TestASlowParentIsLeft(t *testing.T) {
	d, ctx := newDirectory(), within(t)
	stuck := startReplica(t, d)
	m := startMember(t, d, nil)
	stuck.publish(version(t, 1, 4096, false))
	m.await(t, ctx, 1)
	fresh := startReplica(t, d)
	fresh.publish(version(t, 2, 4096, false))
	d.announce(version(t, 2, 4, false).Position())
	began := time.Now()
	m.await(t, ctx, 2)
	if took := time.Since(began); took > 3*leastPatience {
		t.Errorf("version 2 came after %v", took)
	}
}
