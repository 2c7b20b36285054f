package paramserver

import (
	"context"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// activateAfter is how long all members must have supported a feature level
// before it is activated: until then a node may go back to the older version.
const activateAfter = 5 * time.Second

// activation remembers since when a level could be activated.
type activation struct {
	level uint8
	since time.Time
}

// activate raises the cluster's feature level once every member supports more.
// There is no way back: an older version stops at the command.
func (m *Membership) activate(ctx context.Context, a *activation) {
	var level uint8
	var founded bool
	m.Replica.Read(func(s *fsm.State) { level, founded = s.FeatureLevel(), s.ClusterID() != "" })
	servers, err := m.Replica.Servers()
	if err != nil || !founded {
		return
	}
	now := m.Clock.Now()
	if !a.ready(min(fsm.Supported(), supportedBy(servers, m.Mesh.Members())), level, now) {
		return
	}
	cmd := &fsm.Activate{Level: a.level, Stamp: now.UnixNano()}
	if res, err := m.Replica.Apply(ctx, cmd); err != nil || res.Outcome == fsm.Rejected {
		m.Logger.Warn("feature level not activated", "level", a.level, "reason", res.Reason, "error", err)
		return
	}
	m.Logger.Info("feature level activated", "level", a.level)
}

// ready says whether a level that all support now has been supported by all for
// long enough.
func (a *activation) ready(supported, present uint8, now time.Time) bool {
	if supported <= present {
		*a = activation{}
		return false
	}
	if a.level != supported {
		*a = activation{level: supported, since: now}
	}
	return now.Sub(a.since) >= activateAfter
}

// supportedBy is the level that every member supports which applies commands:
// those of the raft configuration, and whatever else of such a role takes part.
// A member that is not heard of now might come back with an older version; it
// counts as one, until it is removed.
func supportedBy(servers []replica.Server, members []cluster.Member) uint8 {
	level := uint8(255)
	heard := make(map[string]bool, len(members))
	for _, m := range members {
		if m.State != cluster.Alive || m.Role == cluster.RoleWorker {
			continue
		}
		heard[m.ID] = true
		level = min(level, max(1, m.Level)) // versions that do not say support level 1
	}
	for _, s := range servers {
		if !heard[s.ID] {
			return 1
		}
	}
	return level
}
