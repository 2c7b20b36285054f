package sampler

import (
	"testing"
	"time"
)

// A slot that has lost its learner samples as fast as it can at first, then at a
// pace, and stops only when its outbox is full.
func TestSamplingGoesOnWithoutALearner(t *testing.T) {
	s := &shift{outbox: NewOutbox(0)}
	if err := s.outbox.Resume(1); err != nil {
		t.Fatal(err)
	}
	want := func(since time.Duration, now bool, again time.Duration) {
		t.Helper()
		if n, a := s.room(since); n != now || a != again {
			t.Errorf("%d batches wait, %v since the last: %v and again after %v; want %v and %v", s.outbox.Waiting(), since, n, a, now, again)
		}
	}
	push := func(batches, n int) {
		for range batches {
			s.outbox.Push(n, []byte{0})
		}
	}
	push(readyBatches, 4)
	want(0, true, 0)
	push(1, 4)
	want(time.Hour, false, 0) // the learner is there: no hurry
	s.outbox.Disconnected()
	want(0, true, 0)
	push(outageBatches-readyBatches, 4)
	want(0, false, outagePace)
	want(outagePace/2, false, outagePace/2)
	want(outagePace, true, 0)
	push(1, keepLimit)
	want(time.Hour, false, 0)
}
