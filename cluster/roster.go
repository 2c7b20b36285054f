package cluster

import (
	"cmp"
	"slices"
	"sync"
)

// maxGone bounds how many members that are no longer alive are remembered.
const maxGone = 1024

// roster is the table of members. Every change gets the next revision number;
// a reader that remembers the last one it saw misses no member's latest state,
// however slow it is, and the roster keeps no queue for it.
type roster struct {
	mu       sync.Mutex
	members  map[string]Member
	alive    int
	revision uint64
	changed  chan struct{} // closed at the next change
}

func newRoster() *roster {
	return &roster{members: make(map[string]Member), changed: make(chan struct{})}
}

// put records a member's new condition; a Dead one that said good-bye is Left.
func (r *roster) put(m Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.State == Dead && r.members[m.ID].departing {
		m.State, m.departing = Left, true
	}
	r.set(m)
}

// depart notes that a member said good-bye. Its death may have been reported
// before: gossip keeps no order.
func (r *roster) depart(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.members[id]
	if !ok || m.departing {
		return
	}
	m.departing = true
	if m.State == Dead {
		m.State = Left
		r.set(m)
		return
	}
	r.members[id] = m
}

func (r *roster) set(m Member) {
	old, known := r.members[m.ID]
	if known && old.State == Alive {
		r.alive--
	}
	if m.State == Alive {
		r.alive++
	}
	r.revision++
	m.revision = r.revision
	r.members[m.ID] = m
	r.prune()
	close(r.changed)
	r.changed = make(chan struct{})
}

// prune forgets the member that has been gone longest once there are too many.
func (r *roster) prune() {
	if len(r.members)-r.alive <= maxGone {
		return
	}
	var oldest *Member
	for _, m := range r.members {
		if m.State != Alive && (oldest == nil || m.revision < oldest.revision) {
			oldest = &m
		}
	}
	delete(r.members, oldest.ID)
}

// since returns the members that changed after a revision, oldest change first,
// the present revision, and a channel that is closed at the next change.
func (r *roster) since(revision uint64) ([]Member, uint64, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Member
	for _, m := range r.members {
		if m.revision > revision {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.revision, b.revision) })
	return out, r.revision, r.changed
}

func (r *roster) get(id string) (Member, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.members[id]
	return m, ok
}

func (r *roster) countAlive() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alive
}

// all returns every member by ID.
func (r *roster) all() []Member {
	out, _, _ := r.since(0)
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
