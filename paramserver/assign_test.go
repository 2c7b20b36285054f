package paramserver

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/share"
)

// TestWhichSlotsLive: those that listen, those that broke off a moment ago, and
// at first those that a new leader knows of.
func TestWhichSlotsLive(t *testing.T) {
	start := time.Unix(1000, 0)
	slot := func(worker string, index int) share.Slot { return share.Slot{Worker: worker, Index: index} }
	worker := func(id string, state cluster.State) cluster.Member {
		return cluster.Member{ID: id, Role: cluster.RoleWorker, State: state, Slots: 1}
	}
	for name, c := range map[string]struct {
		after   time.Duration // since this node leads
		seeded  []share.Slot
		slots   map[share.Slot]attendance // left: after start
		members []cluster.Member
		want    []share.Slot
	}{
		"a slot that listens": {
			after: time.Hour, slots: map[share.Slot]attendance{slot("a", 0): {streams: 1}}, want: []share.Slot{slot("a", 0)},
		},
		"it listens, and gossip cannot reach it": {
			after: time.Hour, slots: map[share.Slot]attendance{slot("a", 0): {streams: 1}},
			members: []cluster.Member{worker("a", cluster.Dead)}, want: []share.Slot{slot("a", 0)},
		},
		"one that gossip knows does not listen": {after: time.Hour, members: []cluster.Member{worker("a", cluster.Alive)}},
		"a stream that broke off": {
			after: time.Hour, slots: map[share.Slot]attendance{slot("a", 0): {left: start.Add(time.Hour - attendanceGrace/2)}},
			want: []share.Slot{slot("a", 0)},
		},
		"it broke off and gossip says why": {
			after: time.Hour, slots: map[share.Slot]attendance{slot("a", 0): {left: start.Add(time.Hour - attendanceGrace/2)}},
			members: []cluster.Member{worker("a", cluster.Left)},
		},
		"it does not come back": {
			after: time.Hour, slots: map[share.Slot]attendance{slot("a", 0): {left: start.Add(time.Hour - attendanceGrace)}},
		},
		"a new leader knows of slots": {
			after: time.Second, seeded: []share.Slot{slot("a", 0), slot("c", 2)},
			members: []cluster.Member{worker("b", cluster.Alive), worker("c", cluster.Dead), {ID: "s", Role: cluster.RoleServer, State: cluster.Alive, Slots: 1}},
			want:    []share.Slot{slot("a", 0), slot("b", 0)},
		},
		"one of them came and went": {
			after: time.Second, seeded: []share.Slot{slot("a", 0)}, slots: map[share.Slot]attendance{slot("a", 0): {left: start}},
		},
		"they do not come": {after: takeover, seeded: []share.Slot{slot("a", 0)}, members: []cluster.Member{worker("b", cluster.Alive)}},
	} {
		d := division{since: start, seeded: c.seeded, slots: c.slots}
		for range 2 { // looking twice changes nothing
			got := d.live(c.members, start.Add(c.after))
			slices.SortFunc(got, func(a, b share.Slot) int { return slices.Compare([]byte(a.Worker), []byte(b.Worker)) })
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	}
}

func TestAPausedJobWaitsForNoLearner(t *testing.T) {
	plan := map[string]string{"j": "its learner failed 3 times in a row; a short pause"}
	if got := waits(&fsm.Job{ID: "j", Status: fsm.Running}, plan); !strings.Contains(got, "a short pause") {
		t.Errorf("running: %q", got)
	}
	if got := waits(&fsm.Job{ID: "j", Status: fsm.Paused}, plan); got != "" {
		t.Errorf("paused: %q", got)
	}
}
