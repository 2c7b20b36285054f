// Package cores lends several cores to work that is cut into parts.
package cores

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Team is a few goroutines that help whoever calls Do. Parts are taken as they
// come, so that a core that is busy elsewhere delays nobody for longer than one
// part takes.
type Team struct {
	n    int
	work atomic.Pointer[func(int)]
	// state is the number of the call, and of the next part that nobody has taken;
	// parts that of the call's parts. A helper takes a part by moving state on, which
	// fails if it read the work of a call that is over.
	state atomic.Uint64
	parts atomic.Int64
	left  atomic.Int64 // parts that have not returned

	mu      sync.Mutex
	wake    *sync.Cond
	waiting int
	closed  bool
	helpers sync.WaitGroup
}

// A state is call<<partBits | next part.
const (
	partBits = 24
	noPart   = 1<<partBits - 1
)

// spins is how often a helper looks for new work before it sleeps: about twenty
// microseconds, for the calls of one update follow each other closely, and waking
// it would cost half of that.
const spins = 30000

// New returns a team of n, the caller of Do among them. Close ends it. What
// prepare there is, each of the others calls first.
func New(n int, prepare ...func()) *Team {
	t := &Team{n: max(n, 1)}
	t.wake = sync.NewCond(&t.mu)
	for range t.n - 1 {
		t.helpers.Go(func() {
			for _, f := range prepare {
				f()
			}
			t.help()
		})
	}
	return t
}

// Num is the number of parts that can run at once.
func (t *Team) Num() int { return t.n }

// Close ends the helpers and waits for them. No Do may run, or follow.
func (t *Team) Close() {
	t.mu.Lock()
	t.closed = true
	t.wake.Broadcast()
	t.mu.Unlock()
	t.helpers.Wait()
}

// Do calls *f once for each part from 0 to parts−1, here and in the helpers, and
// returns when all have returned. It is for one goroutine at a time. *f must not
// panic.
func (t *Team) Do(parts int, f *func(part int)) {
	if t.n == 1 || parts <= 1 || parts >= noPart {
		for p := range parts {
			(*f)(p)
		}
		return
	}
	// A state without parts, while parts and work are not of one call: a helper
	// that read the state before cannot take what it no longer says.
	next := t.state.Load()>>partBits + 1
	t.state.Store(next<<partBits | noPart)
	t.work.Store(f)
	t.parts.Store(int64(parts))
	t.left.Store(int64(parts))
	t.state.Store((next + 1) << partBits)
	t.mu.Lock()
	if t.waiting > 0 {
		t.wake.Broadcast()
	}
	t.mu.Unlock()
	for t.take() {
	}
	for n := 0; t.left.Load() > 0; n++ {
		if n > spins {
			runtime.Gosched()
		}
	}
}

// take does a part that nobody has taken; false when there is none.
func (t *Team) take() bool {
	state := t.state.Load()
	parts, f := t.parts.Load(), t.work.Load()
	part := state & noPart
	if int64(part) >= parts {
		return false
	}
	if !t.state.CompareAndSwap(state, state+1) {
		return true
	}
	(*f)(int(part))
	t.left.Add(-1)
	return true
}

// help does parts until the team is closed.
func (t *Team) help() {
	seen := uint64(0)
	for {
		call := t.state.Load() >> partBits
		for n := 0; call == seen && n < spins; n++ {
			call = t.state.Load() >> partBits
		}
		if call == seen && !t.sleep(seen) {
			return
		}
		seen = t.state.Load() >> partBits
		for t.take() {
		}
	}
}

// sleep waits for a call after the one seen; false when the team is closed.
func (t *Team) sleep(seen uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting++
	defer func() { t.waiting-- }()
	for t.state.Load()>>partBits == seen {
		if t.closed {
			return false
		}
		t.wake.Wait()
	}
	return true
}
