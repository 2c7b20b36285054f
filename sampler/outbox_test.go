package sampler_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/sampler"
)

// sendAll empties what has credit and returns the first bytes of the frames.
func sendAll(o *sampler.Outbox) (out []byte) {
	for {
		f, ok := o.Send()
		if !ok {
			return out
		}
		out = append(out, f[0])
	}
}

func TestOutboxSendsWhatHasCreditOnce(t *testing.T) {
	o := sampler.NewOutbox(10)
	for i := range 4 { // 11–14, 15–18, 19–22, 23–26
		if next := o.Next(); next != uint64(11+4*i) {
			t.Fatalf("batch %d begins at %d", i, next)
		}
		o.Push(4, []byte{byte(i)})
	}
	o.Acknowledge(0, 100)
	if got := sendAll(o); got != nil {
		t.Errorf("sent %v before the learner said where to begin", got)
	}
	o.Disconnected()
	if err := o.Resume(11); err != nil {
		t.Fatal(err)
	}
	o.Acknowledge(0, 21) // ends inside the third
	if got := sendAll(o); string(got) != "\x00\x01" {
		t.Errorf("sent %v", got)
	}
	o.Acknowledge(0, 5) // a late message takes nothing back
	o.Acknowledge(0, 22)
	if got := sendAll(o); string(got) != "\x02" {
		t.Errorf("sent %v", got)
	}
	if o.Waiting() != 1 || o.Kept() != 16 || o.Mark() != 10 {
		t.Errorf("%d wait, %d kept, mark %d", o.Waiting(), o.Kept(), o.Mark())
	}
	o.Acknowledge(16, 22) // inside the second: it is kept whole
	if o.Kept() != 10 || o.Mark() != 16 {
		t.Errorf("%d kept, mark %d", o.Kept(), o.Mark())
	}

	// A new stream begins where the learner says, in whole batches.
	o.Disconnected()
	if err := o.Resume(19); err != nil {
		t.Fatal(err)
	}
	o.Acknowledge(16, 100)
	if got := sendAll(o); string(got) != "\x02\x03" {
		t.Errorf("sent %v after a resume at 19", got)
	}
	o.Disconnected()
	if err := o.Resume(17); err != nil {
		t.Fatal(err)
	}
	o.Acknowledge(16, 100)
	if got := sendAll(o); string(got) != "\x01\x02\x03" {
		t.Errorf("sent %v after a resume at 17", got)
	}
	o.Acknowledge(26, 100)
	if o.Kept() != 0 || o.Waiting() != 0 {
		t.Errorf("%d kept when all is committed", o.Kept())
	}
}

// TestOutboxRefusesImpossibleResumes and marks of what was never sampled.
func TestOutboxRefusesImpossibleResumes(t *testing.T) {
	o := sampler.NewOutbox(10)
	o.Push(4, []byte{0})
	for _, next := range []uint64{0, 10, 16} {
		if err := o.Resume(next); err == nil {
			t.Errorf("resumed at %d with 11 to 14 kept", next)
		}
	}
	if err := o.Resume(15); err != nil { // it has all, uncommitted
		t.Error(err)
	}
	if o.Acknowledge(15, 0); o.Mark() != 10 {
		t.Errorf("mark %d of 14 sampled", o.Mark())
	}
}

// TestOutboxInvariants against a list of what is kept, under any order of
// events, reordered and hostile acknowledgements included.
func TestOutboxInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mark := uint64(rapid.IntRange(0, 5).Draw(t, "mark"))
		o := sampler.NewOutbox(mark)
		type batch struct{ first, last uint64 }
		var (
			all    []batch // since the beginning
			sent   []batch // on the present stream
			from   uint64  // where the stream began; 0 while there is none
			credit uint64
		)
		for range rapid.IntRange(1, 150).Draw(t, "events") {
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0:
				n := rapid.IntRange(1, 5).Draw(t, "n")
				first := o.Next()
				o.Push(n, []byte{byte(len(all))})
				all = append(all, batch{first, first + uint64(n) - 1})
			case 1:
				o.Disconnected()
				sent, from, credit = nil, 0, 0
			case 2:
				if from != 0 {
					continue
				}
				next := mark + uint64(rapid.IntRange(0, 8).Draw(t, "next"))
				err := o.Resume(next)
				if possible := next > mark && next <= o.Next(); possible != (err == nil) {
					t.Fatalf("resume at %d with mark %d, next %d: %v", next, mark, o.Next(), err)
				} else if possible {
					from = next
				}
			case 3:
				m := uint64(rapid.IntRange(0, int(o.Next())+2).Draw(t, "acknowledged"))
				k := m + uint64(rapid.IntRange(0, 12).Draw(t, "credit"))
				o.Acknowledge(m, k)
				if m < o.Next() {
					mark = max(mark, m)
				}
				credit = max(credit, k)
			case 4:
				f, ok := o.Send()
				if !ok {
					continue
				}
				b := all[f[0]]
				if from == 0 || b.last > credit || b.last <= mark {
					t.Fatalf("sent %v with the stream from %d, credit %d, mark %d", b, from, credit, mark)
				}
				// The first sent holds what is wanted, or what is left of it; the
				// others follow without a gap, but for what a mark has covered.
				wanted := max(from, mark+1)
				if len(sent) > 0 {
					wanted = max(sent[len(sent)-1].last+1, mark+1)
				}
				if b.last < wanted || b.first > wanted {
					t.Fatalf("sent %v where %d is wanted", b, wanted)
				}
				sent = append(sent, b)
			}
			if o.Mark() != mark || o.Kept() != int(o.Next()-1-mark) || o.Waiting() < 0 {
				t.Fatalf("mark %d, %d kept, %d wait; want mark %d of %d", o.Mark(), o.Kept(), o.Waiting(), mark, o.Next()-1)
			}
		}
	})
}

func TestOutboxKnowsThatTheLearnerIsLost(t *testing.T) {
	o := sampler.NewOutbox(0)
	o.Push(4, []byte{0})
	o.Disconnected() // the first stream opens: nothing was lost
	if o.Lost() {
		t.Error("lost before there was a learner")
	}
	if err := o.Resume(1); err != nil {
		t.Fatal(err)
	}
	o.Disconnected()
	o.Disconnected() // a stream that opens and fails again
	if !o.Lost() {
		t.Error("the learner is gone and not lost")
	}
	if err := o.Resume(1); err != nil || o.Lost() {
		t.Errorf("%v, lost %v after the next learner resumed", err, o.Lost())
	}
}
