package fanout

import (
	"time"

	"github.com/driftmesh/driftmesh/internal/wire"
)

const (
	// A parent that has not brought what gossip announced after two of the job's
	// publication intervals is too slow; the bounds cover gossip's own delay and
	// jobs that publish once a minute.
	leastPatience = time.Second
	mostPatience  = 10 * time.Second
)

// lateness tells a parent that is behind from one that has nothing new. It has
// no clock: the caller says what time it is.
type lateness struct {
	has      bool
	at       wire.Position // of the newest snapshot, if has
	adopted  time.Time     // when it came
	interval time.Duration // between versions, smoothed

	hinted bool
	newest wire.Position // announced by gossip, if hinted
	want   wire.Position // what is being waited for
	since  time.Time     // from this moment; zero while nothing is
}

// announced notes that a version exists.
func (l *lateness) announced(p wire.Position, now time.Time) {
	if l.hinted && !l.newest.Before(p) {
		return
	}
	l.hinted, l.newest = true, p
	if l.since.IsZero() {
		l.wait(now)
	}
}

// adopt notes that a version has come.
func (l *lateness) adopt(p wire.Position, now time.Time) {
	if l.has && !l.at.Before(p) {
		return
	}
	if l.has {
		gap := now.Sub(l.adopted)
		if l.interval == 0 {
			l.interval = gap
		}
		l.interval += (gap - l.interval) / 8
	}
	l.has, l.at, l.adopted = true, p, now
	if l.since.IsZero() || !p.Before(l.want) {
		l.wait(now)
	}
}

// progress notes that part of a version has come, or that another parent is
// asked: patience begins anew.
func (l *lateness) progress(now time.Time) {
	if !l.since.IsZero() {
		l.since = now
	}
}

// wait starts waiting for the newest announced version if it has not come yet.
func (l *lateness) wait(now time.Time) {
	l.since = time.Time{}
	if l.hinted && (!l.has || l.at.Before(l.newest)) {
		l.want, l.since = l.newest, now
	}
}

// deadline says when the parent counts as too slow; ok is false while nothing is
// waited for.
func (l *lateness) deadline() (at time.Time, ok bool) {
	if l.since.IsZero() {
		return time.Time{}, false
	}
	return l.since.Add(min(max(2*l.interval, leastPatience), mostPatience)), true
}
