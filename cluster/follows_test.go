package cluster_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/driftmesh/driftmesh/cluster"
)

// TestFollowsTravelByGossip: what a node follows is known to the others soon
// after it changes, and its cache's group from the start.
func TestFollowsTravelByGossip(t *testing.T) {
	c := config(clusterA, cluster.RoleWorker)
	c.Group = "group-1"
	a, b := start(t, c), start(t, config(clusterA, cluster.RoleServer))
	if err := b.Join(within(t), a.Addr()); err != nil {
		t.Fatal(err)
	}
	if got := await(t, b, a.ID(), cluster.Alive); got.Group != "group-1" || got.FollowsJob("grid") {
		t.Errorf("at first: %+v", got)
	}
	until := func(what string, cond func(cluster.Member) bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for p := range b.Events(ctx) {
			if p.ID == a.ID() && cond(p) {
				return
			}
		}
		t.Fatalf("gave up waiting until %s", what)
	}
	if err := a.SetFollows([]string{"grid", "other", "grid"}); err != nil {
		t.Fatal(err)
	}
	until("it follows two jobs", func(m cluster.Member) bool {
		return m.FollowsJob("grid") && m.FollowsJob("other") && !m.FollowsJob("third") && len(m.Follows) == 8
	})
	var many []string
	for i := range 2 * cluster.MaxFollows {
		many = append(many, fmt.Sprintf("job-%03d", i))
	}
	if err := a.SetFollows(many); err != nil {
		t.Fatal(err)
	}
	until("it follows the first of many", func(m cluster.Member) bool {
		return m.FollowsJob(many[0]) && m.FollowsJob(many[cluster.MaxFollows-1]) && !m.FollowsJob(many[cluster.MaxFollows]) && !m.FollowsJob("grid")
	})
}
