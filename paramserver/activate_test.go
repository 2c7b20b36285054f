package paramserver

import (
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

var epochStart = time.Unix(1_700_000_000, 0)

func TestActivationWaitsForAll(t *testing.T) {
	server := func(id string, level uint8, s cluster.State) cluster.Member {
		return cluster.Member{ID: id, Role: cluster.RoleServer, Level: level, State: s}
	}
	raft := []replica.Server{{ID: "a", Voter: true}, {ID: "b", Voter: true}}
	for name, c := range map[string]struct {
		members []cluster.Member
		want    uint8
	}{
		"all":                         {[]cluster.Member{server("a", 2, cluster.Alive), server("b", 3, cluster.Alive)}, 2},
		"one is old":                  {[]cluster.Member{server("a", 2, cluster.Alive), server("b", 1, cluster.Alive)}, 1},
		"one is dead":                 {[]cluster.Member{server("a", 2, cluster.Alive), server("b", 2, cluster.Dead)}, 1},
		"one is unknown":              {[]cluster.Member{server("a", 2, cluster.Alive)}, 1},
		"an old one joins":            {[]cluster.Member{server("a", 2, cluster.Alive), server("b", 2, cluster.Alive), server("c", 1, cluster.Alive)}, 1},
		"a dead one that was removed": {[]cluster.Member{server("a", 2, cluster.Alive), server("b", 2, cluster.Alive), server("c", 1, cluster.Dead)}, 2},
		"workers apply no commands":   {[]cluster.Member{server("a", 2, cluster.Alive), server("b", 2, cluster.Alive), {ID: "w", Role: cluster.RoleWorker, Level: 1, State: cluster.Alive}}, 2},
	} {
		if got := supportedBy(raft, c.members); got != c.want {
			t.Errorf("%s: level %d, want %d", name, got, c.want)
		}
	}
	var a activation
	now := epochStart
	for _, step := range []struct {
		supported uint8
		after     time.Duration
		ready     bool
	}{
		{2, 0, false}, {2, activateAfter - 1, false}, {1, 0, false}, // one went back
		{2, 1, false}, {2, activateAfter - 1, false}, {2, 1, true},
	} {
		now = now.Add(step.after)
		if got := a.ready(step.supported, 1, now); got != step.ready {
			t.Errorf("supported %d at %v: ready %t", step.supported, now.Sub(epochStart), got)
		}
	}
	if a.ready(2, 2, now.Add(time.Hour)) {
		t.Error("a level that is active is activated")
	}
}
