package paramserver

import (
	"testing"

	"github.com/driftmesh/driftmesh/internal/runs"
)

func TestHubKeepsTheLastReports(t *testing.T) {
	h := newHub()
	if got, _ := h.after(-1); got != nil {
		t.Errorf("an empty hub has %v", got)
	}
	for v := range int64(2*maxReports + 7) {
		_, changed := h.after(v)
		h.publish(Report{Row: runs.Row{Version: v}})
		select {
		case <-changed:
		default:
			t.Fatalf("report %d wakes nobody", v)
		}
	}
	if len(h.reports) != maxReports || cap(h.reports) > 2*maxReports {
		t.Errorf("%d reports in room for %d", len(h.reports), cap(h.reports))
	}
	const last = 2*maxReports + 6
	for _, after := range []int64{-1, 3, last - maxReports, last - maxReports + 1, last - 1, last} {
		got, _ := h.after(after)
		want := min(maxReports, last-after)
		if int64(len(got)) != want {
			t.Errorf("after %d: %d reports, want %d", after, len(got), want)
		}
		for i, r := range got {
			if r.Row.Version != last-want+1+int64(i) {
				t.Fatalf("after %d: report %d is of version %d", after, i, r.Row.Version)
			}
		}
	}
}

func TestHubWakesWithoutAReport(t *testing.T) {
	h := newHub()
	_, changed := h.after(0)
	h.wake()
	<-changed
	if _, again := h.after(0); again == changed {
		t.Error("a watcher that looks again is woken at once")
	}
}
