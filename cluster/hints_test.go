package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// TestHintsAreCoalesced drives the book with random news and checks what it
// promises: at most two announcements a second and job, never an old version,
// and the newest one is announced in the end.
func TestHintsAreCoalesced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newHintBook()
		now := time.Unix(0, 0)
		newest := make(map[string]wire.Position)
		announced := make(map[string]wire.Position)
		last := make(map[string]time.Time)
		take := func() time.Duration {
			ready, wait := b.take(now)
			for _, h := range ready {
				if at, ok := last[h.Job]; ok && now.Sub(at) < 500*time.Millisecond {
					t.Fatalf("%s announced again after %v", h.Job, now.Sub(at))
				}
				if old, ok := announced[h.Job]; ok && !old.Before(h.Position) {
					t.Fatalf("%s announced %v after %v", h.Job, h.Position, old)
				}
				announced[h.Job], last[h.Job] = h.Position, now
			}
			return wait
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond)
			h := hint{
				Job:      rapid.SampledFrom([]string{"a", "b"}).Draw(t, "job"),
				Position: wire.Position{Generation: rapid.Uint64Range(0, 2).Draw(t, "g"), Version: rapid.Uint64Range(0, 9).Draw(t, "v")},
			}
			old, known := newest[h.Job]
			news := !known || old.Before(h.Position)
			if b.offer(h) != news {
				t.Fatalf("%v after %v: news is %v", h, old, news)
			}
			if news {
				newest[h.Job] = h.Position
			}
			take()
		}
		for {
			wait := take()
			if wait == 0 {
				break
			}
			now = now.Add(wait)
		}
		for job, p := range newest {
			if announced[job] != p || b.known[job] != p {
				t.Fatalf("%s: announced %v and know %v, newest is %v", job, announced[job], b.known[job], p)
			}
		}
	})
}

func TestHintBookIsBounded(t *testing.T) {
	b := newHintBook()
	for i := range 2 * maxHintJobs {
		b.offer(hint{Job: fmt.Sprint(i), Position: wire.Position{Version: 1}})
	}
	if len(b.known) != maxHintJobs {
		t.Errorf("%d jobs are remembered, want %d", len(b.known), maxHintJobs)
	}
	if !b.offer(hint{Job: "0", Position: wire.Position{Version: 2}}) {
		t.Error("a full book does not follow the jobs that it knows")
	}
	b = newHintBook()
	for _, job := range []string{"", strings.Repeat("x", maxJobName+1)} {
		if b.offer(hint{Job: job}) {
			t.Errorf("a job name of %d bytes was taken", len(job))
		}
	}
}
