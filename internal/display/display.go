// Package display shows a training run while it happens: a few lines redrawn in
// place on a terminal, plain lines anywhere else. It never reads input and
// installs no signal handler, so Ctrl-C stays with the caller.
package display

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/internal/runs"
	"golang.org/x/term"
)

// Options describe the run that is shown.
type Options struct {
	Name  string // of the run
	Total int64  // updates at which the run is finished; 0 when unknown
	Plain bool   // plain lines even on a terminal
	// Servers and Workers are shown until a Timing or Alive says otherwise.
	Servers, Workers int
}

const (
	// refresh is the time between two pictures on a terminal: the elapsed time
	// goes on even when nothing arrives.
	refresh = 250 * time.Millisecond
	// quiet is the shortest time between two plain lines of progress.
	quiet = time.Second
)

// Display shows one run. Its methods may be called from any goroutine and do
// not wait for the output, so that a terminal that is held up (by Ctrl-S, say)
// does not hold up training; only Close waits until everything is written.
type Display struct {
	out   io.Writer
	live  bool
	width func() int // columns of the terminal
	color bool

	mu     sync.Mutex // guards what follows
	state  snapshot
	notes  []string
	fresh  bool // state has progress that was not written yet
	closed bool

	wake    chan struct{} // holds at most one request to look at the state
	done    chan struct{} // closed when the goroutine has written everything
	drawn   int           // lines of the last picture; the goroutine's own
	written time.Time     // of the last plain line of progress; the goroutine's own
}

// New starts a display on out. Lines are redrawn in place when out is a
// terminal that can do so, unless o.Plain.
func New(out io.Writer, o Options) *Display {
	file, ok := out.(*os.File)
	live := ok && !o.Plain && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd()))
	width := func() int { return 80 }
	if live {
		width = func() int {
			w, _, err := term.GetSize(int(file.Fd()))
			if err != nil || w <= 0 {
				return 80
			}
			return w
		}
	}
	return start(out, o, live, os.Getenv("NO_COLOR") == "", width)
}

func start(out io.Writer, o Options, live, color bool, width func() int) *Display {
	d := &Display{
		out: out, live: live, color: color && live, width: width,
		state: snapshot{Options: o, began: time.Now()},
		wake:  make(chan struct{}, 1), done: make(chan struct{}),
	}
	go d.loop()
	return d
}

// Row shows a finished stretch of learning.
func (d *Display) Row(row runs.Row, t runs.Timing) {
	d.change(func() {
		d.state.row(row, t, time.Now())
		d.fresh = true
	})
}

// Progress moves the progress bar between two rows.
func (d *Display) Progress(version int64, trajectories uint64) {
	d.change(func() { d.state.progress(version, trajectories, time.Now()) })
}

// Alive says how many servers and workers are alive.
func (d *Display) Alive(servers, workers int) {
	d.change(func() { d.state.Servers, d.state.Workers = servers, workers })
}

// Note writes a line of news above the progress.
func (d *Display) Note(line string) {
	d.change(func() { d.notes = append(d.notes, strings.Split(strings.TrimRight(line, "\n"), "\n")...) })
}

// change applies f unless the display is closed, and wakes the goroutine.
func (d *Display) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	f()
	select {
	case d.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Close writes what is still to be shown, leaves the last picture standing and
// waits for the display's goroutine. Calling it again does nothing.
func (d *Display) Close() {
	d.mu.Lock()
	if !d.closed {
		d.closed = true
		close(d.wake) // under the lock: nobody sends any more
	}
	d.mu.Unlock()
	<-d.done
}

// loop is the only writer. A failing output is no reason to stop training, so
// its errors are dropped.
func (d *Display) loop() {
	defer close(d.done)
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for open := true; open; {
		select {
		case _, open = <-d.wake:
			if d.live && open {
				d.flush(false) // notes at once; the picture waits for the tick
				continue
			}
		case <-tick.C:
		}
		d.flush(true)
	}
	d.mu.Lock()
	d.written = time.Time{} // what is left is written however soon
	d.mu.Unlock()
	d.flush(true)
}

// flush writes pending notes and, when asked for and due, the progress.
func (d *Display) flush(progress bool) {
	d.mu.Lock()
	notes := d.notes
	d.notes = nil
	now := time.Now()
	if !d.live {
		progress = progress && d.fresh && now.Sub(d.written) >= quiet
	}
	if !progress && len(notes) == 0 {
		d.mu.Unlock()
		return
	}
	var text string
	if d.live {
		text = d.picture(notes, now)
	} else {
		text = lines(notes)
		if progress {
			text += d.state.plain(now) + "\n"
			d.fresh, d.written = false, now
		}
	}
	d.mu.Unlock()
	_, _ = io.WriteString(d.out, text)
}

// picture moves over the picture before, writes the notes in its place and the
// new picture below them.
func (d *Display) picture(notes []string, now time.Time) string {
	var b strings.Builder
	if d.drawn > 0 {
		b.WriteString(up(d.drawn))
	}
	width := d.width()
	for _, n := range notes {
		b.WriteString(n + eraseRight + "\n")
	}
	view := d.state.view(now, width, d.color)
	for _, l := range view {
		b.WriteString(l + eraseRight + "\n")
	}
	b.WriteString(eraseBelow)
	d.drawn = len(view)
	return b.String()
}

func lines(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return strings.Join(notes, "\n") + "\n"
}
