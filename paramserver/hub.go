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

// hub keeps the last reports of one job and lets watchers follow them. It is
// soft state: a watcher that wants history across restarts keeps it itself.
type hub struct {
	mu      sync.Mutex
	reports []Report // a ring once it is full
	oldest  int      // index in reports
	changed chan struct{}
}

// maxReports is far more than a watcher that follows can be behind.
const maxReports = 1000

func newHub() *hub { return &hub{changed: make(chan struct{})} }

// publish adds a report; beyond maxReports the oldest is forgotten.
func (h *hub) publish(r Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.reports) < maxReports {
		h.reports = append(h.reports, r)
	} else {
		h.reports[h.oldest] = r
		h.oldest = (h.oldest + 1) % maxReports
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

// after returns the reports of versions beyond v, in the order of publication,
// and a channel that is closed when there may be more.
func (h *hub) after(v int64) ([]Report, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Report
	for i := range h.reports {
		if r := &h.reports[(h.oldest+i)%len(h.reports)]; r.Row.Version > v {
			out = append(out, *r)
		}
	}
	return out, h.changed
}
