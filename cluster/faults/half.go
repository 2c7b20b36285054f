package faults

import (
	"os"
	"sync"
	"time"
)

const (
	// maxHeld bounds what one direction of a connection holds back, in bytes;
	// beyond it the sender waits, as for a full socket buffer.
	maxHeld = 256 << 10
	// maxChunk is what travels at once.
	maxChunk = 16 << 10
	// pace is how finely a rate is kept.
	pace = 10 * time.Millisecond
)

// half is one direction of a connection: a bounded queue of bytes, each with the
// moment that it arrives at the other end.
type half struct {
	table *table
	judge func() (verdict, <-chan struct{})

	mu      sync.Mutex
	queue   []chunk
	held    int
	last    time.Time     // when the last byte of the queue arrives: no overtaking
	free    time.Time     // when the rate lets more through
	end     error         // after the queue: what a reader gets
	broken  error         // now: for both sides, the queue is void
	changed chan struct{} // closed and replaced whenever something above changes
}

type chunk struct {
	data []byte
	due  time.Time
}

func newHalf(t *table, judge func() (verdict, <-chan struct{})) *half {
	return &half{table: t, judge: judge, changed: make(chan struct{})}
}

// notify wakes whoever waits; mu is held.
func (h *half) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// put queues a copy of b, waiting for room. It fails once the half has ended,
// is broken, or d has passed.
func (h *half) put(b []byte, d *deadline) (n int, err error) {
	for {
		h.mu.Lock()
		switch {
		case h.broken != nil:
			err = h.broken
		case h.end != nil:
			err = h.end
		case d.passed():
			err = os.ErrDeadlineExceeded
		}
		if err != nil || n == len(b) {
			h.mu.Unlock()
			return n, err
		}
		room, changed := maxHeld-h.held, h.changed
		if room > 0 {
			piece := b[n:min(n+maxChunk, n+room, len(b))]
			n += len(piece)
			h.push(piece)
		}
		h.mu.Unlock()
		if room <= 0 {
			select {
			case <-changed:
			case <-d.done():
			}
		}
	}
}

// push appends one piece; mu is held.
func (h *half) push(piece []byte) {
	v, _ := h.judge()
	lag := h.table.lag(v)
	if lag > 0 || v.rate > 0 {
		h.table.struck.Add(1)
	}
	due := time.Now().Add(lag)
	if due.Before(h.last) {
		due = h.last
	}
	h.last = due
	h.queue = append(h.queue, chunk{append([]byte(nil), piece...), due})
	h.held += len(piece)
	h.notify()
}

// get takes bytes that have arrived, waiting for some. After the last it
// returns what finish gave.
func (h *half) get(p []byte, d *deadline) (int, error) {
	for {
		h.mu.Lock()
		n, wait, err := h.take(p)
		changed := h.changed
		h.mu.Unlock()
		if n > 0 || err != nil {
			return n, err
		}
		if d.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		var due <-chan time.Time
		stop := func() bool { return true }
		if wait.until > 0 {
			timer := time.NewTimer(wait.until)
			due, stop = timer.C, timer.Stop
		}
		select {
		case <-changed:
		case <-wait.healed:
		case <-due:
		case <-d.done():
		}
		stop()
	}
}

// patience says what a reader waits for besides a change of the queue.
type patience struct {
	until  time.Duration   // 0: nothing is on its way
	healed <-chan struct{} // nil: the link is whole
}

// take moves what may pass now into p; mu is held.
func (h *half) take(p []byte) (int, patience, error) {
	if h.broken != nil {
		return 0, patience{}, h.broken
	}
	if len(h.queue) == 0 && h.end == nil {
		return 0, patience{}, nil
	}
	v, healed := h.judge()
	if v.cut {
		h.table.struck.Add(1)
		return 0, patience{healed: healed}, nil
	}
	if len(h.queue) == 0 {
		return 0, patience{}, h.end
	}
	now := time.Now()
	head := &h.queue[0]
	at := head.due
	if v.rate > 0 && h.free.After(at) {
		at = h.free
	}
	if wait := at.Sub(now); wait > 0 {
		return 0, patience{until: wait, healed: healed}, nil
	}
	if v.rate > 0 {
		step := max(1, int(float64(v.rate)*pace.Seconds()))
		p = p[:min(len(p), step)]
	}
	n := copy(p, head.data)
	if head.data = head.data[n:]; len(head.data) == 0 {
		h.queue = h.queue[1:]
	}
	h.held -= n
	if v.rate > 0 {
		h.free = now.Add(time.Duration(float64(n) / float64(v.rate) * float64(time.Second)))
	}
	h.notify()
	return n, patience{}, nil
}

// finish lets nothing more in; what is queued still arrives, and then err.
func (h *half) finish(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end == nil {
		h.end = err
		h.notify()
	}
}

// fail ends the half at once for both sides.
func (h *half) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == nil {
		h.broken, h.queue, h.held = err, nil, 0
		h.notify()
	}
}

func (h *half) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held
}

// deadline is a moment that may be moved while others wait for it. The zero
// value never passes; so does nil.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	moves int           // tells a timer that fires late from the present one
	ch    chan struct{} // closed once it has passed
	over  bool
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moves++
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.ch == nil || d.over {
		d.ch, d.over = make(chan struct{}), false
	}
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.over = true
		close(d.ch)
		return
	}
	move := d.moves
	d.timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.moves == move {
			d.over = true
			close(d.ch)
		}
	})
}

func (d *deadline) passed() bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over
}

func (d *deadline) done() <-chan struct{} {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ch == nil {
		d.ch = make(chan struct{})
	}
	return d.ch
}
