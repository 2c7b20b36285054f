package fanout

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/cluster"
)

// view draws a membership: workers in groups and alone, some of them dead, of
// another job, or without an address, and a few servers.
func view(t *rapid.T) []cluster.Member {
	var out []cluster.Member
	for i := range rapid.IntRange(0, 60).Draw(t, "workers") {
		m := cluster.Member{ID: fmt.Sprint("w", i), Role: cluster.RoleWorker, GRPCAddr: fmt.Sprint("127.0.0.1:", i), State: cluster.Alive, Follows: marks("other", grid)}
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			m.State = cluster.Dead
		case 1:
			m.Follows = marks("other")
		case 2:
			m.GRPCAddr = ""
		case 3, 4, 5:
			m.Group = fmt.Sprint("g", rapid.IntRange(0, 9).Draw(t, "group"))
		}
		out = append(out, m)
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "servers") {
		out = append(out, cluster.Member{ID: fmt.Sprint("s", i), Role: cluster.RoleServer, GRPCAddr: fmt.Sprint("127.0.0.1:", 100+i), State: cluster.Alive})
	}
	return out
}

// takers are the groups that take part.
func takers(members []cluster.Member) []string {
	var out []string
	for _, m := range members {
		if m.Role == cluster.RoleWorker && m.State == cluster.Alive && m.GRPCAddr != "" && m.FollowsJob(grid) {
			out = append(out, GroupOf(m))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestThePlanIsATree: with one view, no group has more than FanOut children, no
// more than FanOut take from replicas, none is its own ancestor, and the list of
// every group ends with all replicas.
func TestThePlanIsATree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := view(t)
		groupOf, replicas := map[string]string{}, 0
		for _, m := range members {
			groupOf[m.ID] = GroupOf(m)
			if m.Role == cluster.RoleServer {
				replicas++
			}
		}
		parentOf, children, roots := map[string]string{}, map[string]int{}, 0
		groups := takers(members)
		for _, g := range groups {
			plan := Plan(grid, g, "", members)
			direct := slices.IndexFunc(plan, func(c Candidate) bool { return c.Replica })
			if direct < 0 {
				direct = len(plan)
			}
			if len(plan)-direct != replicas {
				t.Fatalf("%s ends with %d of %d replicas: %v", g, len(plan)-direct, replicas, plan)
			}
			if direct == 0 {
				roots++
				continue
			}
			p := groupOf[plan[0].Node]
			if parentOf[g] = p; p == g {
				t.Fatalf("%s is its own parent", g)
			}
			if children[p]++; children[p] > FanOut {
				t.Fatalf("%s has more than %d children", p, FanOut)
			}
		}
		if roots > FanOut || len(groups) > 0 && roots == 0 {
			t.Fatalf("%d of %d groups take from replicas", roots, len(groups))
		}
		for _, g := range groups {
			at, hops := g, 0
			for ; parentOf[at] != ""; at = parentOf[at] {
				if hops++; hops > 4 { // 4 + 16 + 64 groups
					t.Fatalf("%s is %d hops or more from a replica", g, hops)
				}
			}
		}
	})
}

// TestThePlanIsTheSameEverywhere: it depends on who is there, not on the order
// in which that is told, and the caller takes part even where the view lacks it.
func TestThePlanIsTheSameEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := view(t)
		shuffled := rapid.Permutation(members).Draw(t, "shuffled")
		for _, g := range append(takers(members), "newcomer") {
			if a, b := Plan(grid, g, "", members), Plan(grid, g, "", shuffled); !slices.Equal(a, b) {
				t.Fatalf("%v or %v", a, b)
			}
		}
	})
}

// TestNoTwoViewsMakeALoop: whatever a node sees, those that it takes from stand
// before it in the one order that all nodes share.
func TestNoTwoViewsMakeALoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := view(t)
		order := takers(members)
		byRank(order, grid)
		groupOf := map[string]string{}
		for _, m := range members {
			groupOf[m.ID] = GroupOf(m)
		}
		for i, g := range order {
			seen := slices.DeleteFunc(slices.Clone(members), func(cluster.Member) bool { return rapid.IntRange(0, 3).Draw(t, "unseen") == 0 })
			for _, c := range Plan(grid, g, "", seen) {
				if !c.Replica && slices.Index(order, groupOf[c.Node]) >= i {
					t.Fatalf("%s takes from %s, which stands after it", g, groupOf[c.Node])
				}
			}
		}
	})
}

// TestTheFirstReplicaIsAskedFirst, and the others are spread.
func TestTheFirstReplicaIsAskedFirst(t *testing.T) {
	var members []cluster.Member
	for i := range 5 {
		members = append(members, cluster.Member{ID: fmt.Sprint("s", i), Role: cluster.RoleServer, GRPCAddr: fmt.Sprint("127.0.0.1:", i), State: cluster.Alive})
	}
	seconds := map[string]int{}
	for i := range 400 {
		plan := Plan(grid, fmt.Sprint("w", i), "127.0.0.1:3", members)
		if len(plan) != 5 || plan[0].Node != "s3" {
			t.Fatalf("the plan is %v", plan)
		}
		seconds[plan[1].Node]++
	}
	for node, n := range seconds {
		if n < 60 || n > 140 {
			t.Errorf("%s is second for %d of 400 nodes; want about 100", node, n)
		}
	}
}
