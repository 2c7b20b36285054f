package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// progress tells on standard error how far a part is, and how long it may take.
type progress struct {
	w           io.Writer
	began       time.Time
	total, done float64 // of a part, in guessed seconds
	before      cpuTimes
}

func newProgress(w io.Writer) *progress { return &progress{w: w} }

func (p *progress) say(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

// expect begins a part of about so many seconds.
func (p *progress) expect(seconds float64) { p.began, p.total, p.done = time.Now(), seconds, 0 }

// add says that what was guessed to take so long is done.
func (p *progress) add(seconds float64, format string, args ...any) {
	p.done += seconds
	left := time.Since(p.began).Seconds() * (p.total - p.done) / p.done
	p.say("%3.0f %%, %s left: %s", 100*p.done/p.total, time.Duration(left*float64(time.Second)).Round(time.Second), fmt.Sprintf(format, args...))
}

// cpuTimes are clock ticks since the machine started.
type cpuTimes struct{ all, idle float64 }

// machineTimes reads what all cores have done; zero where that is not known.
func machineTimes() (t cpuTimes) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t
	}
	line, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(line) {
		v, err := strconv.ParseFloat(field, 64)
		if err != nil || i > 8 { // after steal come the guests, which were counted as users
			continue
		}
		t.all += v
		if i == 4 || i == 5 { // idle, waiting for a disk
			t.idle += v
		}
	}
	return t
}

// elsewhere is how many cores were busy with something else than a process that
// used so much of them, since before.
func elsewhere(before, after cpuTimes, used time.Duration) float64 {
	wall := (after.all - before.all) / ticks // core-seconds
	if wall <= 0 {
		return 0
	}
	cores := float64(numCPU)
	return max(0, (wall-(after.idle-before.idle)/ticks-used.Seconds())/wall*cores)
}

// ticks per second of /proc/stat, on every Linux that Go runs on.
const ticks = 100
