package fsm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Caps of the history.
const (
	MaxEvents = 4096 // kept; older ones are forgotten
	MaxDetail = 1024 // bytes of Event.Detail

	maxKind = 32 // bytes of Event.Kind
)

// record adds an event at the present index. Before level 2 there are none:
// a replica that restarted from a snapshot of level 1 could not know them.
func (s *State) record(ev Event) {
	if ev.Kind == "" || s.FeatureLevel() < 2 {
		return
	}
	ev.Index, ev.Detail = s.index, clip(ev.Detail)
	if len(s.events) == MaxEvents {
		s.events = s.events[1:] // append copies what is left from time to time
	}
	s.events = append(s.events, ev)
}

// clip cuts a text to MaxDetail bytes at the start of a character.
func clip(text string) string {
	if len(text) <= MaxDetail {
		return text
	}
	n := MaxDetail
	for n > MaxDetail-utf8.UTFMax && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// eventOf is what an applied command means to the history; Kind is empty if
// nothing. e is the command's job, nil if it has none.
func eventOf(cmd any, e *entry) Event {
	switch c := cmd.(type) {
	case Activate:
		return Event{Stamp: c.Stamp, Kind: EventActivated, Detail: strconv.Itoa(int(c.Level))}
	case CreateJob:
		return Event{Stamp: c.Stamp, Kind: EventCreated, Job: c.Job}
	case Grant:
		return Event{Stamp: c.Stamp, Kind: EventGranted, Job: c.Job, Node: c.Node, Epoch: c.Epoch, Version: e.Version, Detail: c.Reason}
	case SetStatus:
		detail := string(c.Status)
		if c.Reason != "" {
			detail += ": " + c.Reason
		}
		return Event{Stamp: c.Stamp, Kind: EventStatus, Job: c.Job, Epoch: e.Epoch, Version: e.Version, Detail: detail}
	case Commit:
		if c.Done {
			return Event{Stamp: c.Stamp, Kind: EventStatus, Job: c.Job, Epoch: c.Epoch, Version: c.Version, Detail: string(Finished)}
		}
	case SetShare:
		return Event{Stamp: c.Stamp, Kind: EventShare, Job: c.Job, Detail: fmt.Sprintf("weight %v, priority %d", c.Weight, c.Priority)}
	case OpenSession:
		return Event{Stamp: c.Stamp, Kind: EventOpened, Job: c.Job, Node: c.Worker, Detail: fmt.Sprintf("slot %d, session %s", c.Slot, c.Session)}
	case ExpireSession:
		se := e.sessions[c.Session]
		return Event{Stamp: c.Stamp, Kind: EventExpired, Job: c.Job, Node: se.Worker,
			Detail: fmt.Sprintf("slot %d, session %s, at mark %d", se.Slot, c.Session, se.Mark)}
	case Note:
		return Event{Stamp: c.Stamp, Kind: c.Kind, Job: c.Job, Node: c.Node, Detail: c.Detail}
	}
	return Event{}
}

// derived are the kinds that only commands make; a Note has another.
var derived = []string{
	EventInit, EventRestored, EventActivated, EventCreated, EventGranted, EventStatus, EventShare, EventOpened, EventExpired,
}

// check refuses a Note that is not fit for the history.
func (c Note) check() Result {
	notDash := func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') }
	switch {
	case c.Kind == "" || len(c.Kind) > maxKind || strings.ContainsFunc(c.Kind, notDash):
		return reject("kind %.100q; want 1 to %d lower-case letters and dashes", c.Kind, maxKind)
	case slices.Contains(derived, c.Kind):
		return reject("kind %q is for other commands", c.Kind)
	case len(c.Job) > MaxID || len(c.Node) > MaxID:
		return reject("job of %d and node of %d bytes; the cap is %d", len(c.Job), len(c.Node), MaxID)
	case len(c.Detail) > MaxDetail:
		return reject("detail of %d bytes; the cap is %d", len(c.Detail), MaxDetail)
	}
	return Result{Outcome: Applied}
}

// Events returns the history after a log index, oldest first: at most the last
// MaxEvents, and nothing of the time before level 2.
func (s *State) Events(after uint64) []Event {
	at, _ := slices.BinarySearchFunc(s.events, after, func(ev Event, after uint64) int {
		if ev.Index <= after {
			return -1
		}
		return 1
	})
	return slices.Clone(s.events[at:])
}
