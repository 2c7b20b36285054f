package paramserver_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/paramserver"
)

// TestIntakeWakesWhoWaits: the learner for trajectories, senders for credit.
func TestIntakeWakesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := paramserver.NewIntake(paramserver.NewAdmission(8, 4, paramserver.Bounds{}), func() int { return 8 }, clock.Real{}, slog.New(slog.DiscardHandler))
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

// TestIntakeWakesOnlyWhomItConcerns: what one session delivers, and what is taken of
// it, is nothing to the streams of others; a larger share is.
func TestIntakeWakesOnlyWhomItConcerns(t *testing.T) {
	in := paramserver.NewIntake(paramserver.NewAdmission(16, 4, paramserver.Bounds{}), func() int { return 8 }, clock.Real{}, slog.New(slog.DiscardHandler))
	for _, s := range []string{"a", "b"} {
		if _, err := in.Open(s, 0); err != nil {
			t.Fatal(err)
		}
	}
	_, a, _ := in.Credit("a")
	_, b, _ := in.Credit("b")
	woken := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	if err := in.Offer("a", run(1, 8, 0)); err != nil {
		t.Fatal(err)
	}
	if !woken(a) || woken(b) {
		t.Errorf("a delivered: a woken %v, b woken %v", woken(a), woken(b))
	}
	_, a, _ = in.Credit("a")
	if _, err := in.Next(t.Context(), 0, nil); err != nil {
		t.Fatal(err)
	}
	if !woken(a) || woken(b) {
		t.Errorf("a's were taken: a woken %v, b woken %v", woken(a), woken(b))
	}
	if in.Leave("a"); !woken(b) {
		t.Error("a left and b, whose share is larger now, does not hear of it")
	}
}

// TestIntakeClosesWithItsLease: nothing of an ended lease is taken for the next.
func TestIntakeClosesWithItsLease(t *testing.T) {
	in := paramserver.NewIntake(paramserver.NewAdmission(8, 4, paramserver.Bounds{}), func() int { return 8 }, clock.Real{}, slog.New(slog.DiscardHandler))
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

// TestRefusalsFillNoDisk: a line at most every second, and every one is counted.
func TestRefusalsFillNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		in := paramserver.NewIntake(paramserver.NewAdmission(5000, 4, paramserver.Bounds{}), func() int { return 4 }, clock.Real{}, slog.New(slog.NewTextHandler(&text, nil)))
		if _, err := in.Open("a", 0); err != nil {
			t.Fatal(err)
		}
		in.Credit("a")
		refuse := func(first uint64) {
			if err := in.Offer("a", run(first, 4, 0)); err != nil {
				t.Fatal(err)
			}
			batch, err := in.Next(t.Context(), 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range batch {
				in.Refuse(&batch[i], errors.New("nonsense"))
			}
		}
		lines := func(want ...string) {
			t.Helper()
			got := strings.Count(text.String(), "\n")
			for _, w := range want {
				if !strings.Contains(text.String(), w) {
					t.Errorf("no line says %q:\n%s", w, &text)
				}
			}
			if got != len(want) {
				t.Errorf("%d lines, want %d:\n%s", got, len(want), &text)
			}
		}
		for i := range uint64(900) { // in the same second
			refuse(4*i + 1)
			time.Sleep(time.Millisecond)
		}
		lines("count=1 session=a seq=1 error=nonsense")
		time.Sleep(time.Second)
		refuse(3601)
		lines("count=1 ", "count=3600 session=a seq=3601 ") // 3599 of then, and this one
		in.Close()
		lines("count=1 ", "count=3600 ", "count=3 session=a seq=3604 ")
		in.Close()
		if m := in.Marks(); len(m) != 1 || m[0].Refused != 3604 || m[0].Admitted != 0 {
			t.Errorf("the marks say %+v", m)
		}
	})
}
