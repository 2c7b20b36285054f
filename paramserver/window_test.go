package paramserver_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/paramserver"
)

var epoch = time.Unix(1_800_000_000, 0)

func TestWindowIsDueWhenItIsFull(t *testing.T) {
	const length = 50 * time.Millisecond
	w := paramserver.NewWindow(length, epoch)
	if w.Due(epoch.Add(time.Hour)) || w.Open() {
		t.Error("a window without a step is due or open")
	}
	w.Stepped()
	if !w.Open() || w.Due(epoch.Add(length-1)) || !w.Due(epoch.Add(length)) {
		t.Error("a window with a step is due before its time, or not then")
	}
	w.Committed(epoch.Add(length))
	if w.Open() || w.InFlight() != 1 {
		t.Errorf("after a commit: open %v, %d in flight", w.Open(), w.InFlight())
	}
	w.Stepped()
	if w.Due(epoch.Add(2*length - 1)) {
		t.Error("the second window is due before its time")
	}
	w.Committed(epoch.Add(2 * length))
	w.Stepped()
	late := epoch.Add(4 * length)
	if w.Due(late) {
		t.Error("a third window is due while two are in flight")
	}
	w.Answered(time.Millisecond)
	if !w.Due(late) {
		t.Error("a grown window is not due once there is room")
	}
}

// TestWindowGrowsBeforeTheLearnerWaits: to twenty times its length.
func TestWindowGrowsBeforeTheLearnerWaits(t *testing.T) {
	const length = 10 * time.Millisecond
	w := paramserver.NewWindow(length, epoch)
	far := epoch.Add(time.Hour)
	if w.MustWait(far) {
		t.Error("must wait with nothing in flight")
	}
	w.Committed(epoch)
	if w.MustWait(far) {
		t.Error("must wait with one in flight")
	}
	w.Committed(epoch)
	if w.MustWait(epoch.Add(20*length-1)) || !w.MustWait(epoch.Add(20*length)) {
		t.Error("must wait before the window has grown to its limit, or not then")
	}
	w.Answered(time.Microsecond)
	if w.MustWait(far) {
		t.Error("must wait with room in flight")
	}
}

// TestWindowFollowsTheCommitTime: the larger of what was configured and ten
// times the smoothed commit time.
func TestWindowFollowsTheCommitTime(t *testing.T) {
	w := paramserver.NewWindow(50*time.Millisecond, epoch)
	answered := func(d time.Duration) time.Duration {
		w.Committed(epoch)
		w.Answered(d)
		return w.Length()
	}
	for _, c := range []struct{ took, want time.Duration }{
		{time.Millisecond, 50 * time.Millisecond},       // 10 ms: as configured
		{17 * time.Millisecond, 50 * time.Millisecond},  // smoothed 3 ms
		{83 * time.Millisecond, 130 * time.Millisecond}, // smoothed 13 ms
		{13 * time.Millisecond, 130 * time.Millisecond},
	} {
		if got := answered(c.took); got != c.want {
			t.Errorf("after an answer in %v: %v, want %v", c.took, got, c.want)
		}
	}
	for range 100 {
		answered(0)
	}
	if got := w.Length(); got != 50*time.Millisecond {
		t.Errorf("commits are quick again, but the window is %v", got)
	}
}

// TestWindowInvariants under any driver that asks before it acts.
func TestWindowInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := time.Duration(rapid.IntRange(0, 100).Draw(t, "min")) * time.Millisecond
		now := epoch
		w := paramserver.NewWindow(least, now)
		steps, opened := 0, now
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "ms")) * time.Millisecond)
			if w.MustWait(now) && (w.InFlight() < paramserver.MaxInFlight || now.Sub(opened) < w.Length()) {
				t.Fatalf("must wait with %d in flight, %v after the window opened", w.InFlight(), now.Sub(opened))
			}
			switch {
			case w.Due(now):
				if steps == 0 || now.Sub(opened) < w.Length() {
					t.Fatalf("due with %d steps after %v", steps, now.Sub(opened))
				}
				w.Committed(now)
				steps, opened = 0, now
			case w.InFlight() > 0 && rapid.Bool().Draw(t, "answer"):
				w.Answered(time.Duration(rapid.IntRange(0, 500).Draw(t, "took")) * time.Millisecond)
			default:
				w.Stepped()
				steps++
			}
			if n := w.InFlight(); n < 0 || n > paramserver.MaxInFlight || w.Open() != (steps > 0) || w.Length() < least {
				t.Fatalf("%d in flight, open %v after %d steps, length %v of at least %v", n, w.Open(), steps, w.Length(), least)
			}
		}
	})
}
