package parts

import (
	"context"
	"math"
	"testing"
	"time"
)

func TestAgesCountWhatWasPublishedMeanwhile(t *testing.T) {
	const ms = int64(time.Millisecond)
	uses := []use{
		{Version: 1, Stamp: 5 * ms, At: 20 * ms}, // before
		{Version: 2, Stamp: 100 * ms, At: 110 * ms}, {Version: 2, Stamp: 100 * ms, At: 112 * ms},
		{Version: 3, Stamp: 200 * ms, At: 230 * ms}, {Version: 3, Stamp: 200 * ms, At: 208 * ms},
		{Version: 4, Stamp: 1300 * ms, At: 1301 * ms}, // after
	}
	a := &Ages{IdleCores: 0.1}
	if err := a.account(uses, map[uint64]int64{2: 107 * ms, 3: 205 * ms}, 0.5, 50*ms, 1050*ms); err != nil {
		t.Fatal(err)
	}
	if a.Deliveries != 4 || a.Rate != 2 || a.P50 != 10 || a.P95 != 30 || a.Transport[0] != 3 || a.Transport[1] != 25 {
		t.Errorf("%+v", a)
	}
	if math.Abs(a.CPU-125) > 1e-9 || math.Abs(a.NetCPU-100) > 1e-9 {
		t.Errorf("%v and %v ms per snapshot, want 125 and 100", a.CPU, a.NetCPU)
	}
	if err := a.account(nil, nil, 0, 0, 1); err == nil {
		t.Error("no use of any version is an answer")
	}
}

// TestDeliveryReachesTheIntake with the processes of the measurement, in one.
func TestDeliveryReachesTheIntake(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := newIntakeServer(1)
	next, err := s.intake.Open("a", 0)
	if err != nil || next != 1 {
		t.Fatal(next, err)
	}
	batch := prepared(1)
	for i := range batch {
		batch[i].Seq = uint64(i + 1)
	}
	s.intake.Credit("a")
	if err := s.intake.Offer("a", batch); err != nil {
		t.Fatal(err)
	}
	taking, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		s.consume(taking, nil)
	}()
	for s.taken.Load() < PerCall && ctx.Err() == nil {
		<-time.After(time.Millisecond)
	}
	stop()
	<-done
	if s.taken.Load() != PerCall || s.ring[PerCall-1].Seq != PerCall || len(s.ring[0].Actions) == 0 {
		t.Errorf("%d taken, the last in the ring is %+v", s.taken.Load(), s.ring[PerCall-1])
	}
}
