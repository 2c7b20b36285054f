package pilot

import autopilot "github.com/hashicorp/raft-autopilot"

// Sighting is a node's condition as gossip sees it, raft member or not.
type Sighting struct {
	ID     string
	Role   string
	Status autopilot.NodeStatus
}

// News returns the nodes whose condition differs from the last one that the
// cluster's history tells of, in order, with their present one. recorded maps a
// node to the condition in its last event. complete says that the history reaches
// back to the cluster's beginning: where it does not, a node without an event is
// not new, only its event is forgotten.
func News(seen []Sighting, recorded map[string]autopilot.NodeStatus, complete bool) []Sighting {
	var out []Sighting
	for _, s := range seen {
		last, known := recorded[s.ID]
		switch {
		case s.Status == autopilot.NodeUnknown, known && last == s.Status:
		case !known && s.Status != autopilot.NodeAlive: // it came and went unseen
		case !known && !complete:
		default:
			out = append(out, s)
		}
	}
	return out
}
