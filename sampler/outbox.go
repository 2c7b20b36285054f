package sampler

import "fmt"

// Outbox is the worker's half of "trajectories count once": a pure machine that
// numbers batches, keeps each until a committed mark covers it, and says which
// one to send next. It knows no socket and no clock; Worker drives it.
//
// Invariants: every kept batch ends after mark; batches are contiguous in
// sequence numbers and end at next-1; 0 <= cursor <= len(batches); nothing past
// credit is sent.
type Outbox struct {
	batches []outgoing
	cursor  int    // batches[:cursor] were sent on the present stream
	next    uint64 // sequence number of the next trajectory
	mark    uint64 // committed: everything up to it is forgotten
	credit  uint64 // highest sequence number the learner is ready to take
	open    bool   // Resume was seen on the present stream
	lost    bool   // there was a stream, and none has resumed since
}

type outgoing struct {
	first, last uint64
	frame       []byte
}

// NewOutbox starts a stream whose committed mark is already mark.
func NewOutbox(mark uint64) *Outbox { return &Outbox{next: mark + 1, mark: mark} }

// Next is the sequence number that the next pushed batch begins with.
func (o *Outbox) Next() uint64 { return o.next }

// Push appends a batch of n trajectories, already encoded with FirstSeq = Next().
func (o *Outbox) Push(n int, frame []byte) {
	o.batches = append(o.batches, outgoing{o.next, o.next + uint64(n) - 1, frame})
	o.next += uint64(n)
}

// Disconnected forgets what was sent on the present stream: all that is kept
// will be sent again, after Resume.
func (o *Outbox) Disconnected() {
	o.lost = o.lost || o.open
	o.cursor, o.open, o.credit = 0, false, 0
}

// Lost says that the learner was lost and has not been found again.
func (o *Outbox) Lost() bool { return o.lost }

// Resume is the learner's answer to Hello: it wants seq next. A learner asks
// for mark+1 or, when it already holds some uncommitted batches, for more;
// asking for what was forgotten, or never sampled, breaks the stream.
func (o *Outbox) Resume(next uint64) error {
	if next <= o.mark || next > o.next {
		return fmt.Errorf("learner asks for trajectory %d, but %d to %d are kept", next, o.mark+1, o.next-1)
	}
	o.cursor = 0
	for o.cursor < len(o.batches) && o.batches[o.cursor].last < next {
		o.cursor++
	}
	// A next inside a batch is fine: the batch is sent whole and the learner
	// drops the part that it has.
	o.open, o.lost = true, false
	return nil
}

// Acknowledge takes the committed mark and the credit of a Downlink. Marks and
// credits that go back (a reordered or stale message) are ignored.
func (o *Outbox) Acknowledge(mark, credit uint64) {
	if mark > o.mark && mark < o.next {
		o.mark = mark
		drop := 0
		for drop < len(o.batches) && o.batches[drop].last <= mark {
			o.batches[drop].frame = nil
			drop++
		}
		o.batches = o.batches[drop:]
		o.cursor = max(0, o.cursor-drop)
	}
	o.credit = max(o.credit, credit)
}

// Send returns the next frame to put on the wire, if the learner has credit for it.
func (o *Outbox) Send() ([]byte, bool) {
	if !o.open || o.cursor >= len(o.batches) || o.batches[o.cursor].last > o.credit {
		return nil, false
	}
	f := o.batches[o.cursor].frame
	o.cursor++
	return f, true
}

// Waiting is the number of batches kept but not yet sent on the present stream.
func (o *Outbox) Waiting() int { return len(o.batches) - o.cursor }

// Kept is the number of trajectories that no committed mark covers.
func (o *Outbox) Kept() int { return int(o.next - 1 - o.mark) }

// Mark is the committed mark.
func (o *Outbox) Mark() uint64 { return o.mark }
