package fsm

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
)

// Caps of the best objects that a job keeps.
const (
	MaxBest      = 1000      // objects
	MaxBestBytes = 256 << 10 // their texts and objectOverhead together

	objectOverhead = 16 // log-reward and version
)

// commit replaces the job's state, or changes nothing at all. The order of the
// checks matters: a resent Commit that is already in the state is recognised
// even after its epoch was fenced or the job has finished.
func (e *entry) commit(c Commit, sums digests) (Result, []Hash) {
	switch {
	case slices.Contains(e.recent, sums.command):
		return Result{Outcome: AlreadyApplied}, nil
	case c.Generation != e.Generation || c.Epoch != e.Epoch || e.Learner == "":
		return Result{Outcome: Fenced}, nil
	case e.Status == Finished || e.Status == Failed:
		return reject("job %q is %s", e.ID, e.Status), nil
	case c.Base != e.Version:
		return Result{Outcome: WrongBase}, nil
	case c.Version < c.Base || c.Version == c.Base && e.HasState:
		return reject("version %d does not follow %d", c.Version, c.Base), nil
	}
	if n := len(c.Params) + len(c.Private); n > MaxState {
		return reject("a state of %d bytes; the cap is %d", n, MaxState), nil
	}
	if r := e.checkParams(c.Params, sums); r != nil {
		return *r, nil
	}
	if r := e.checkMarks(c.Marks); r != nil {
		return *r, nil
	}
	if r := checkObjects(c.Best); r != nil {
		return *r, nil
	}
	if r := e.checkSegments(c.Segments, c.Marks); r != nil {
		return *r, nil
	}

	params, private := sums.hashes(c)
	e.Params, e.Private = c.Params, c.Private
	e.ParamsHash, e.privateHash, e.StateHash = params, private, stateHash(params, private)
	e.HasState, e.Version, e.CommitEpoch, e.Committed = true, c.Version, c.Epoch, c.Stamp
	for _, m := range c.Marks {
		e.advance(m)
	}
	for _, g := range c.Segments {
		e.list(g)
	}
	if len(c.Best) > 0 {
		e.best = mergeBest(e.best, c.Best)
	}
	e.recent = append(slices.Clone(e.recent[max(0, len(e.recent)+1-recentCommits):]), sums.command)
	if c.Done {
		e.Status, e.Reason = Finished, ""
	}
	return Result{Outcome: Applied}, []Hash{params, private}
}

// stateHash names a job's whole state: SHA-256 over the digests of Params and Private.
func stateHash(params, private Hash) Hash {
	return sha256.Sum256(append(params[:], private[:]...))
}

// checkParams is the last guard of "non-finite state is never committed" and
// of a layout that stays the same for the job's whole life.
func (e *entry) checkParams(p []byte, sums digests) *Result {
	var r Result
	switch {
	case len(p) == 0 || len(p)%4 != 0:
		r = reject("params of %d bytes; want a positive multiple of 4", len(p))
	case e.HasState && len(p) != len(e.Params):
		r = reject("params of %d bytes; the job's have %d", len(p), len(e.Params))
	default:
		bad := sums.notFinite
		if !sums.blobs {
			bad = notFinite(p)
		}
		if bad < 0 {
			return nil
		}
		r = reject("parameter %d is not finite", bad)
	}
	return &r
}

// notFinite is the first parameter that is not finite, -1 if there is none.
func notFinite(p []byte) int {
	const exponent = 0x7f800000 // all ones: infinity or NaN
	for i := 0; i+4 <= len(p); i += 4 {
		if binary.LittleEndian.Uint32(p[i:])&exponent == exponent {
			return i / 4
		}
	}
	return -1
}

// checkMarks holds the promise that every trajectory is counted once: a mark
// only moves forward, by exactly as many trajectories as have a disposition.
// Expired sessions may still move, because what they sent before counts.
func (e *entry) checkMarks(marks []Mark) *Result {
	seen := make(map[string]bool, len(marks))
	for _, m := range marks {
		var r Result
		session, ok := e.sessions[m.Session]
		moved := m.Seq - session.Mark
		switch {
		case !ok:
			r = reject("mark of unknown session %q", m.Session)
		case seen[m.Session]:
			r = reject("two marks of session %q", m.Session)
		case m.Seq < session.Mark:
			r = reject("mark of session %q goes back from %d to %d", m.Session, session.Mark, m.Seq)
		case m.Admitted > moved || m.Stale > moved-m.Admitted || m.Refused != moved-m.Admitted-m.Stale:
			r = reject("mark of session %q moves by %d but %d+%d+%d trajectories have a disposition",
				m.Session, moved, m.Admitted, m.Stale, m.Refused)
		default:
			seen[m.Session] = true
			continue
		}
		return &r
	}
	return nil
}

func (e *entry) advance(m Mark) {
	s := e.sessions[m.Session]
	s.Mark = m.Seq
	s.Admitted += m.Admitted
	s.Stale += m.Stale
	s.Refused += m.Refused
	e.sessions[m.Session] = s
	e.Admitted += m.Admitted
	e.Stale += m.Stale
	e.Refused += m.Refused
}

func checkObjects(objects []Object) *Result {
	var r Result
	for _, o := range objects {
		switch {
		case o.Text == "" || len(o.Text)+objectOverhead > MaxBestBytes:
			r = reject("object text of %d bytes; want 1 to %d", len(o.Text), MaxBestBytes-objectOverhead)
		case math.IsNaN(o.LogReward) || math.IsInf(o.LogReward, 0):
			r = reject("object %.100q has log-reward %v; want a finite one", o.Text, o.LogReward)
		default:
			continue
		}
		return &r
	}
	return nil
}

// betterFirst orders objects by falling log-reward; ties by text, then by the
// version that found them first.
func betterFirst(a, b Object) int {
	return cmp.Or(cmp.Compare(b.LogReward, a.LogReward), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Version, b.Version))
}

// mergeBest returns the best distinct objects of both lists within the caps.
// Of two with the same text the better one stays.
func mergeBest(old, candidates []Object) []Object {
	all := slices.Concat(old, candidates)
	slices.SortFunc(all, betterFirst)
	seen := make(map[string]bool, len(all))
	kept, size := all[:0], 0
	for _, o := range all {
		if seen[o.Text] {
			continue
		}
		seen[o.Text] = true
		size += len(o.Text) + objectOverhead
		if size > MaxBestBytes || len(kept) == MaxBest {
			break
		}
		kept = append(kept, o)
	}
	return slices.Clip(kept)
}
