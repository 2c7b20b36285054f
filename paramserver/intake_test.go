package paramserver_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/driftmesh/driftmesh/paramserver"
)

// TestIntakeWakesWhoWaits: the learner for trajectories, senders for credit.
func TestIntakeWakesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := paramserver.NewIntake(paramserver.NewReplay(8, 4, 0, false), 8, slog.New(slog.DiscardHandler))
		if _, err := in.Open("a", 0); err != nil {
			t.Fatal(err)
		}
		got := make(chan int, 2)
		next := func(ctx context.Context) {
			batch, err := in.Next(ctx, 0, nil)
			if err != nil {
				t.Log(err)
			}
			got <- len(batch)
		}
		go next(t.Context())
		if err := in.Offer("a", run(1, 4, 0)); !errors.Is(err, paramserver.ErrCredit) {
			t.Fatalf("without credit: %v", err)
		}
		in.Credit("a")
		if err := in.Offer("a", run(1, 4, 0)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("half a batch was taken")
		}
		credit, changed, open := in.Credit("a")
		if !open || credit < 8 {
			t.Fatalf("credit %d, open %v", credit, open)
		}
		if err := in.Offer("a", run(5, 4, 0)); err != nil {
			t.Fatal(err)
		}
		if n := <-got; n != 8 {
			t.Fatalf("took %d", n)
		}
		<-changed
		if more, _, _ := in.Credit("a"); more < credit+8 {
			t.Errorf("credit went from %d to %d after 8 were taken", credit, more)
		}
		// A Next that waits ends with its context.
		ctx, cancel := context.WithCancel(t.Context())
		go next(ctx)
		synctest.Wait()
		cancel()
		if n := <-got; n != 0 {
			t.Errorf("took %d of nothing", n)
		}
	})
}

// TestIntakeClosesWithItsLease: nothing of an ended lease is taken for the next.
func TestIntakeClosesWithItsLease(t *testing.T) {
	in := paramserver.NewIntake(paramserver.NewReplay(8, 4, 0, false), 8, slog.New(slog.DiscardHandler))
	if next, err := in.Open("a", 3); err != nil || next != 4 {
		t.Fatalf("next %d, %v", next, err)
	}
	in.Credit("a")
	if err := in.Offer("a", run(4, 2, 7)); err != nil {
		t.Fatal(err)
	}
	in.Leave("a")
	_, changed, _ := in.Credit("a")
	in.Close()
	<-changed
	if _, _, open := in.Credit("a"); open {
		t.Error("credit is open")
	}
	if _, err := in.Open("b", 0); !errors.Is(err, paramserver.ErrFenced) {
		t.Errorf("Open: %v", err)
	}
	if err := in.Offer("a", run(6, 1, 0)); !errors.Is(err, paramserver.ErrFenced) {
		t.Errorf("Offer: %v", err)
	}
	if m := in.Marks(); m != nil {
		t.Errorf("marks of what was never taken: %v", m)
	}
}
