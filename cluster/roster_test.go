package cluster

import (
	"fmt"
	"testing"
)

func TestRosterReaderMissesNothing(t *testing.T) {
	r := newRoster()
	_, seen, changed := r.since(0)
	r.put(Member{ID: "a", State: Alive})
	r.put(Member{ID: "b", State: Alive})
	r.put(Member{ID: "a", State: Dead})
	select {
	case <-changed:
	default:
		t.Fatal("the change was not signalled")
	}
	got, seen, _ := r.since(seen)
	if len(got) != 2 || got[0].ID != "b" || got[1].ID != "a" || got[1].State != Dead {
		t.Fatalf("got %+v, want b, then a's last state", got)
	}
	if more, _, _ := r.since(seen); len(more) != 0 {
		t.Errorf("told twice: %+v", more)
	}
	if r.countAlive() != 1 {
		t.Errorf("%d alive, want 1", r.countAlive())
	}
}

// TestGoodbyeInAnyOrder: gossip delivers the good-bye before or after the death.
func TestGoodbyeInAnyOrder(t *testing.T) {
	for _, first := range []string{"goodbye", "death"} {
		r := newRoster()
		r.depart("a") // not known yet: nothing
		r.put(Member{ID: "a", State: Alive})
		if first == "goodbye" {
			r.depart("a")
			r.put(Member{ID: "a", State: Dead})
		} else {
			r.put(Member{ID: "a", State: Dead})
			r.depart("a")
		}
		if m, _ := r.get("a"); m.State != Left {
			t.Errorf("%s first: a is %s", first, m.State)
		}
		r.put(Member{ID: "a", State: Alive})
		r.put(Member{ID: "a", State: Dead})
		if m, _ := r.get("a"); m.State != Dead {
			t.Errorf("%s first: a came back and died, but is %s", first, m.State)
		}
	}
}

func TestRosterForgetsTheLongestGone(t *testing.T) {
	r := newRoster()
	r.put(Member{ID: "alive", State: Alive})
	for i := range maxGone + 3 {
		r.put(Member{ID: fmt.Sprint(i), State: Dead})
	}
	if n := len(r.all()); n != maxGone+1 {
		t.Errorf("%d members are remembered, want %d", n, maxGone+1)
	}
	for id, want := range map[string]bool{"alive": true, "2": false, "3": true} {
		if _, ok := r.get(id); ok != want {
			t.Errorf("%s remembered: %v", id, ok)
		}
	}
}
