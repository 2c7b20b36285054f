package cluster

import (
	"maps"
	"slices"
	"time"

	"github.com/driftmesh/driftmesh/internal/wire"
)

const (
	// hintEvery spaces the announcements of one job: two a second. One per
	// version would be far beyond what gossip can carry at a thousand updates a
	// second.
	hintEvery = 500 * time.Millisecond
	// Hints arrive from anyone who can reach the gossip port, so what they may
	// occupy is bounded.
	maxHintJobs = 1024
	maxJobName  = 255
)

// hint says that a version of a job exists. It proves nothing: who wants the
// version asks a replica.
type hint struct {
	Job      string        `msgpack:"j"`
	Position wire.Position `msgpack:"p"`
}

// hintBook holds the newest known version of each job and decides what to
// announce when. It has no clock; the caller says what time it is.
type hintBook struct {
	known map[string]wire.Position
	due   map[string]bool      // newer than what was announced last
	sent  map[string]time.Time // when that was
}

func newHintBook() *hintBook {
	return &hintBook{known: make(map[string]wire.Position), due: make(map[string]bool), sent: make(map[string]time.Time)}
}

// offer takes a hint, from here or from a peer, and says whether it was news.
// News is announced onwards too: that is how it reaches nodes that the origin
// never picked.
func (b *hintBook) offer(h hint) bool {
	old, ok := b.known[h.Job]
	if ok && !old.Before(h.Position) {
		return false
	}
	if h.Job == "" || len(h.Job) > maxJobName || !ok && len(b.known) >= maxHintJobs {
		return false
	}
	b.known[h.Job] = h.Position
	b.due[h.Job] = true
	return true
}

// take returns the hints to announce at now, by job, and how long until the
// next is due (0: none is waiting).
func (b *hintBook) take(now time.Time) (ready []hint, wait time.Duration) {
	for _, job := range slices.Sorted(maps.Keys(b.due)) {
		if left := hintEvery - now.Sub(b.sent[job]); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		delete(b.due, job)
		b.sent[job] = now
		ready = append(ready, hint{Job: job, Position: b.known[job]})
	}
	return ready, wait
}

// all returns every known hint, by job.
func (b *hintBook) all() []hint {
	out := make([]hint, 0, len(b.known))
	for _, job := range slices.Sorted(maps.Keys(b.known)) {
		out = append(out, hint{Job: job, Position: b.known[job]})
	}
	return out
}
