package paramserver

import (
	"sync"

	"github.com/driftmesh/driftmesh/internal/runs"
)

// Report is a metrics row with its timing, as watchers receive it.
type Report struct {
	Row    runs.Row    `json:"row"`
	Timing runs.Timing `json:"timing"`
}

// hub keeps the reports of one job and lets watchers follow them. It is soft
// state: a watcher that wants history across restarts keeps it itself.
type hub struct {
	mu      sync.Mutex
	reports []Report
	changed chan struct{}
}

const maxReports = 10_000 // oldest are forgotten first

func newHub() *hub { return &hub{changed: make(chan struct{})} }

func (h *hub) publish(r Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reports = append(h.reports, r)
	if len(h.reports) > maxReports {
		h.reports = append(h.reports[:0], h.reports[len(h.reports)-maxReports:]...)
	}
	h.notify()
}

// wake makes watchers look again.
func (h *hub) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notify()
}

func (h *hub) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// after returns the reports of versions beyond v and a channel closed at the next one.
func (h *hub) after(v int64) ([]Report, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, r := range h.reports {
		if r.Row.Version > v {
			return append([]Report(nil), h.reports[i:]...), h.changed
		}
	}
	return nil, h.changed
}
