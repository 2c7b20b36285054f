package paramserver

import "time"

// Window decides when a learner commits: a pure machine over (now, event).
// At most two commits are in flight; then the open window grows to its limit,
// and then the learner must wait. The window is the larger of what was
// configured and ten times the smoothed commit time, up to MaxWindow, so that
// Raft bounds the rate of publication and not that of training.
//
// Invariant: 0 <= inFlight <= MaxInFlight.
type Window struct {
	min      time.Duration
	smoothed time.Duration // exponential average of commit times
	opened   time.Time     // when the present window opened
	inFlight int
	steps    int64 // optimiser steps in the present window
}

const (
	// MaxInFlight is how many windows may be proposed and unanswered.
	MaxInFlight = 2
	maxGrowth   = 20 // times the window, before the learner waits for an answer
	commitShare = 10 // window >= commitShare × commit time
	// MaxWindow bounds what slow commits do to the window, and how far a window
	// grows before the learner waits, unless the job asks for longer windows. A
	// disk or a leader that stood still for a minute is forgotten in seconds.
	MaxWindow = time.Second
)

// NewWindow opens the first window at now.
func NewWindow(min time.Duration, now time.Time) *Window {
	return &Window{min: min, opened: now}
}

// Length is the present target length of a window.
func (w *Window) Length() time.Duration { return max(w.min, min(commitShare*w.smoothed, MaxWindow)) }

// Stepped counts one optimiser step.
func (w *Window) Stepped() { w.steps++ }

// Due says whether to commit now: the window is full and there is room in flight.
func (w *Window) Due(now time.Time) bool {
	return w.steps > 0 && w.inFlight < MaxInFlight && now.Sub(w.opened) >= w.Length()
}

// Left is how long a learner that has nothing to do should wait before it looks
// again whether the open window is due.
func (w *Window) Left(now time.Time) time.Duration {
	const least = time.Millisecond // while there is no room in flight
	return max(least, w.Length()-now.Sub(w.opened))
}

// MustWait says that the learner may not run further ahead until a commit is answered.
func (w *Window) MustWait(now time.Time) bool {
	limit := max(w.Length(), min(maxGrowth*w.Length(), MaxWindow))
	return w.inFlight >= MaxInFlight && now.Sub(w.opened) >= limit
}

// Committed records that the window was proposed; the next one opens.
func (w *Window) Committed(now time.Time) {
	w.inFlight++
	w.steps = 0
	w.opened = now
}

// Answered records the answer to the oldest commit in flight, which took d.
func (w *Window) Answered(d time.Duration) {
	w.inFlight--
	d = min(d, MaxWindow/commitShare)
	if w.smoothed == 0 {
		w.smoothed = d
		return
	}
	w.smoothed += (d - w.smoothed) / 8
}

// InFlight is the number of unanswered commits.
func (w *Window) InFlight() int { return w.inFlight }

// Open says whether any step waits to be committed.
func (w *Window) Open() bool { return w.steps > 0 }
