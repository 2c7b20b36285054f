package paramserver_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// run is n consecutive trajectories from first, sampled with version.
func run(first uint64, n int, version uint64) []wire.Trajectory {
	out := make([]wire.Trajectory, n)
	for i := range out {
		out[i] = wire.Trajectory{Seq: first + uint64(i), Version: version, Actions: []int32{0}}
	}
	return out
}

func offer(t testing.TB, r *paramserver.Admission, session string, batch []wire.Trajectory, version uint64) {
	t.Helper()
	if err := r.Offer(session, batch); err != nil {
		t.Fatal(err)
	}
}

func seqs(batch []wire.Trajectory) (out []uint64) {
	for _, tr := range batch {
		out = append(out, tr.Seq)
	}
	return out
}

func TestAdmissionIsFirstInFirstOut(t *testing.T) {
	r := paramserver.NewAdmission(64, 4, paramserver.Bounds{})
	if next := r.Open("a", 0); next != 1 {
		t.Errorf("a new session begins at %d", next)
	}
	if next := r.Open("b", 10); next != 11 {
		t.Errorf("a session with mark 10 goes on at %d", next)
	}
	offer(t, r, "a", run(1, 3, 0), 0)
	offer(t, r, "b", run(11, 2, 0), 0)
	offer(t, r, "a", run(4, 1, 0), 0)
	if got := r.Take(7, 0, time.Time{}, nil); len(got) != 0 || r.Waiting() != 6 {
		t.Errorf("took %d of 6 where 7 were wanted, %d wait", len(got), r.Waiting())
	}
	if m := r.Marks(); m != nil {
		t.Errorf("marks before anything was settled: %v", m)
	}
	got := r.Take(5, 0, time.Time{}, nil)
	if !slices.Equal(seqs(got), []uint64{1, 2, 3, 11, 12}) || got[3].Session != "b" {
		t.Errorf("took %v", got)
	}
	want := []fsm.Mark{{Session: "a", Seq: 3, Admitted: 3}, {Session: "b", Seq: 12, Admitted: 2}}
	if m := r.Marks(); !slices.Equal(m, want) {
		t.Errorf("marks %v, want %v", m, want)
	}
	if m := r.Marks(); m != nil {
		t.Errorf("the same progress twice: %v", m)
	}
}

// TestAdmissionDispositions: everything gets one, in order, and the mark counts it.
func TestAdmissionDispositions(t *testing.T) {
	r := paramserver.NewAdmission(64, 4, paramserver.Bounds{MaxLag: 5, OnStale: "drop"})
	r.Open("a", 0)
	batch := run(1, 10, 10)
	batch[0].Version = 4                 // 6 behind at version 10
	batch[1].Version = 11                // from the future
	batch[2].LogReward = math.NaN()      //
	batch[3].LogReward = math.Inf(-1)    //
	batch[5].LogBehaviour = math.Inf(-1) // would make every ratio infinite
	batch[6].LogBehaviour = math.Inf(1)  //
	batch[7].LogBehaviour = math.NaN()   // none: legal
	batch[8].Version = 5                 // exactly at the bound
	batch[9].Actions = nil               // empty
	offer(t, r, "a", batch, 10)
	got := r.Take(3, 10, time.Time{}, nil)
	if !slices.Equal(seqs(got), []uint64{5, 8, 9}) {
		t.Errorf("took %v, want 5, 8 and 9", seqs(got))
	}
	r.Refuse(&got[1]) // its actions cannot be replayed
	want := []fsm.Mark{{Session: "a", Seq: 9, Admitted: 2, Stale: 1, Refused: 6}}
	if m := r.Marks(); !slices.Equal(m, want) {
		t.Errorf("marks %v, want %v", m, want)
	}
	// What can never be used is settled as soon as it is first in the queue.
	if got := r.Take(1, 10, time.Time{}, got); len(got) != 0 || r.Waiting() != 0 {
		t.Errorf("took %v, %d wait", got, r.Waiting())
	}
	if m := r.Marks(); !slices.Equal(m, []fsm.Mark{{Session: "a", Seq: 10, Refused: 1}}) {
		t.Errorf("marks %v", m)
	}
}

// TestStaleIsDroppedOnlyOnRequest, and when it has become so in the queue.
func TestStaleIsDroppedOnlyOnRequest(t *testing.T) {
	for _, c := range []struct {
		maxLag int64
		drop   bool
		want   int
	}{{5, true, 0}, {5, false, 4}, {0, true, 4}, {20, true, 4}} {
		r := paramserver.NewAdmission(64, 4, bounds(c.maxLag, c.drop))
		r.Open("a", 0)
		offer(t, r, "a", run(1, 4, 0), 0)
		if got := r.Take(4, 10, time.Time{}, nil); len(got) != c.want {
			t.Errorf("max lag %d, drop %v: %d of 4 used at a lag of 10, want %d", c.maxLag, c.drop, len(got), c.want)
		}
	}
}

func TestAdmissionRefusesGapsAndStrangers(t *testing.T) {
	r := paramserver.NewAdmission(64, 4, paramserver.Bounds{})
	if err := r.Offer("nobody", run(1, 1, 0)); !errors.Is(err, cluster.ErrSession) {
		t.Errorf("a stranger: %v", err)
	}
	if c := r.Credit("nobody"); c != 0 {
		t.Errorf("a stranger has credit %d", c)
	}
	r.Open("a", 5)
	if err := r.Offer("a", run(7, 2, 0)); !errors.Is(err, paramserver.ErrGap) || r.Waiting() != 0 {
		t.Errorf("a gap: %v, %d taken", err, r.Waiting())
	}
	offer(t, r, "a", run(6, 3, 0), 0)
	offer(t, r, "a", run(4, 7, 0), 0) // 4 to 8 are had, 9 and 10 are new
	if r.Duplicates != 5 || r.Waiting() != 5 {
		t.Errorf("%d duplicates, %d wait", r.Duplicates, r.Waiting())
	}
	if next := r.Open("a", 5); next != 11 {
		t.Errorf("a second stream of the session is asked for %d", next)
	}
}

// TestAdmissionSharesItsCapacity among the sessions that have a stream.
func TestAdmissionSharesItsCapacity(t *testing.T) {
	r := paramserver.NewAdmission(64, 4, paramserver.Bounds{})
	share := func(session string, settled uint64) uint64 { return (r.Credit(session) - settled) / 4 * 4 }
	r.Open("a", 0)
	if got := share("a", 0); got != 64 {
		t.Errorf("alone: %d", got)
	}
	r.Open("b", 100)
	if got := share("b", 100); got != 32 {
		t.Errorf("one of two: %d", got)
	}
	if got := share("a", 0); got != 64 {
		t.Errorf("credit that was given was taken back: %d", got)
	}
	for i := range 62 {
		r.Open(fmt.Sprint(i), 0)
	}
	if got := share("5", 0); got != 4 {
		t.Errorf("one of 64: %d, want a rollout", got)
	}
	for i := range 62 {
		r.Close(fmt.Sprint(i))
	}
	r.Close("a")
	r.Close("nobody")
	if got := share("b", 100); got != 64 {
		t.Errorf("alone again: %d", got)
	}
	// A session that comes back on a new stream before the old one is known to
	// be broken counts once, until both have ended.
	r.Open("b", 100)
	r.Close("b")
	r.Open("c", 0)
	if got := share("c", 0); got != 32 {
		t.Errorf("one of two again: %d", got)
	}
}

// TestAdmissionNeverStarves: senders that send whole rollouts, as far as the credit
// goes that they hear of when they are short of it, always make the next batch
// complete, whatever the sizes.
func TestAdmissionNeverStarves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batch := rapid.IntRange(1, 100).Draw(t, "batch")
		capacity := batch + rapid.IntRange(0, 100).Draw(t, "spare")
		rollout := rapid.IntRange(1, 50).Draw(t, "rollout")
		sessions := rapid.IntRange(1, 12).Draw(t, "sessions")
		r := paramserver.NewAdmission(capacity, rollout, paramserver.Bounds{})
		next, told := make([]uint64, sessions), make([]uint64, sessions)
		for i := range next {
			next[i] = r.Open(fmt.Sprint(i), 0)
		}
		for update := range rapid.IntRange(1, 30).Draw(t, "updates") {
			for i := range next {
				for {
					if id := fmt.Sprint(i); r.Short(id, told[i]) {
						told[i] = r.Credit(id)
					}
					if next[i]+uint64(rollout)-1 > told[i] {
						break
					}
					if err := r.Offer(fmt.Sprint(i), run(next[i], rollout, 0)); err != nil {
						t.Fatal(err)
					}
					next[i] += uint64(rollout)
				}
			}
			if r.Waiting() > capacity+sessions*rollout {
				t.Fatalf("%d wait, capacity is %d", r.Waiting(), capacity)
			}
			if got := r.Take(batch, uint64(update), time.Time{}, nil); len(got) != batch {
				t.Fatalf("update %d: %d wait of %d for ever, capacity %d, %d sessions with rollouts of %d",
					update, r.Waiting(), batch, capacity, sessions, rollout)
			}
		}
	})
}

// TestAStaleShareIsFreed although what waits before it is fresh: its sender's
// credit is what the next batch lacks.
func TestAStaleShareIsFreed(t *testing.T) {
	r := paramserver.NewAdmission(16, 1, paramserver.Bounds{MaxLag: 1, OnStale: "drop"})
	for _, s := range []string{"a", "b"} {
		r.Open(s, 0)
	}
	if a, b := r.Credit("a"), r.Credit("b"); a != 8 || b != 8 {
		t.Fatalf("credit %d and %d, want 8 each", a, b)
	}
	offer(t, r, "a", run(1, 8, 5), 5)
	offer(t, r, "b", run(1, 7, 0), 5)
	offer(t, r, "b", run(8, 1, 5), 5)
	if got := r.Take(16, 5, time.Time{}, nil); len(got) != 0 || r.Waiting() != 9 {
		t.Fatalf("took %d, %d wait", len(got), r.Waiting())
	}
	if a, b := r.Credit("a"), r.Credit("b"); a != 8 || b != 15 {
		t.Errorf("credit %d and %d, want 8 and 15", a, b)
	}
	offer(t, r, "b", run(9, 7, 5), 5)
	got := r.Take(16, 5, time.Time{}, nil)
	if !slices.Equal(seqs(got), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 14, 15}) {
		t.Errorf("took %v", seqs(got))
	}
	want := []fsm.Mark{{Session: "a", Seq: 8, Admitted: 8}, {Session: "b", Seq: 15, Admitted: 8, Stale: 7}}
	if m := r.Marks(); !slices.Equal(m, want) {
		t.Errorf("marks %v, want %v", m, want)
	}
}

// TestLaterVersionsAreJudgedWhenTheirTurnComes: a version that the learner has
// proposed may come back, sampled from, before the learner takes its next batch.
func TestLaterVersionsAreJudgedWhenTheirTurnComes(t *testing.T) {
	r := paramserver.NewAdmission(8, 4, paramserver.Bounds{})
	r.Open("a", 0)
	offer(t, r, "a", run(1, 4, 5), 3)
	if got := r.Take(4, 5, time.Time{}, nil); len(got) != 4 {
		t.Errorf("took %d at the version that they were sampled with, want 4", len(got))
	}
	offer(t, r, "a", run(5, 4, 9), 5)
	if got := r.Take(4, 6, time.Time{}, nil); len(got) != 0 {
		t.Errorf("took %d of a version that does not exist yet", len(got))
	}
	if m := r.Marks(); len(m) != 1 || m[0].Admitted != 4 || m[0].Refused != 4 {
		t.Errorf("marks %+v, want 4 admitted and 4 refused", m)
	}
}

// account follows one session of TestAdmissionInvariants.
type account struct {
	next, marked, credit uint64
	streams              int
	fates                map[uint64]string // of those that were taken
	sent                 map[uint64]wire.Trajectory
}

// TestAdmissionInvariants drives several sessions through every event and checks
// what the type promises against a list of fates.
func TestAdmissionInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxLag := int64(rapid.IntRange(0, 4).Draw(t, "max_lag"))
		drop := rapid.Bool().Draw(t, "drop")
		r := paramserver.NewAdmission(rapid.IntRange(1, 40).Draw(t, "capacity"), rapid.IntRange(1, 8).Draw(t, "rollout"), bounds(maxLag, drop))
		version := uint64(3)
		accounts := map[string]*account{}
		id := func() string { return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "session") }
		sound := func(tr wire.Trajectory) bool { return tr.Actions != nil && tr.LogReward == 0 }
		stale := func(tr wire.Trajectory) bool { return drop && maxLag > 0 && int64(version-tr.Version) > maxLag }
		for range rapid.IntRange(1, 120).Draw(t, "events") {
			switch rapid.IntRange(0, 6).Draw(t, "event") {
			case 0:
				s := id()
				a := accounts[s]
				if a == nil {
					mark := uint64(rapid.IntRange(0, 5).Draw(t, "mark"))
					a = &account{next: mark + 1, marked: mark, fates: map[uint64]string{}, sent: map[uint64]wire.Trajectory{}}
					accounts[s] = a
				}
				if got := r.Open(s, a.marked); got != a.next {
					t.Fatalf("session %s is asked for %d, want %d", s, got, a.next)
				}
				a.streams++
			case 1:
				if a := accounts[id()]; a != nil && a.streams > 0 {
					a.streams--
					for s, b := range accounts {
						if a == b {
							r.Close(s)
						}
					}
				}
			case 2, 3:
				s := id()
				a := accounts[s]
				if a == nil {
					continue
				}
				from := uint64(max(1, int(a.next)+rapid.IntRange(-3, 1).Draw(t, "from")))
				batch := run(from, rapid.IntRange(1, 6).Draw(t, "n"), 0)
				for i := range batch {
					batch[i].Version = uint64(rapid.IntRange(0, int(version)+1).Draw(t, "version"))
					if rapid.IntRange(0, 9).Draw(t, "spoil") == 0 {
						batch[i].LogReward = math.Inf(1)
					}
					if _, had := a.sent[batch[i].Seq]; !had && from <= a.next {
						a.sent[batch[i].Seq] = batch[i]
					}
				}
				err := r.Offer(s, batch)
				if gap := from > a.next; gap != errors.Is(err, paramserver.ErrGap) {
					t.Fatalf("offer of %d where %d is next: %v", from, a.next, err)
				} else if !gap {
					a.next = max(a.next, from+uint64(len(batch)))
				}
			case 4:
				n := rapid.IntRange(1, 8).Draw(t, "batch")
				got := r.Take(n, version, time.Time{}, nil)
				if len(got) != 0 && len(got) != n {
					t.Fatalf("took %d of %d", len(got), n)
				}
				for i := range got {
					a := accounts[got[i].Session]
					if _, twice := a.fates[got[i].Seq]; twice || !sound(a.sent[got[i].Seq]) || got[i].Version > version || stale(got[i]) {
						t.Fatalf("took %+v", got[i])
					}
					a.fates[got[i].Seq] = "admitted"
					if rapid.IntRange(0, 9).Draw(t, "refuse") == 0 {
						r.Refuse(&got[i])
						a.fates[got[i].Seq] = "refused"
					}
				}
			case 5:
				version++
			case 6:
				marks := r.Marks()
				if !slices.IsSortedFunc(marks, func(a, b fsm.Mark) int { return strings.Compare(a.Session, b.Session) }) {
					t.Fatalf("marks out of order: %v", marks)
				}
				for _, m := range marks {
					a := accounts[m.Session]
					if m.Seq <= a.marked || m.Seq >= a.next || m.Admitted+m.Stale+m.Refused != m.Seq-a.marked {
						t.Fatalf("mark %+v after %d, next is %d", m, a.marked, a.next)
					}
					var admitted, refused uint64
					for seq := a.marked + 1; seq <= m.Seq; seq++ {
						switch fate := a.fates[seq]; {
						case fate == "admitted":
							admitted++
						case fate == "refused" || !sound(a.sent[seq]):
							refused++
						}
					}
					// Versions beyond the learner's are refused too, at the time of their turn.
					if m.Admitted != admitted || m.Refused < refused || !drop && m.Stale > 0 {
						t.Fatalf("mark %+v, but %d were admitted and at least %d refused", m, admitted, refused)
					}
					for seq := range a.fates {
						if seq > m.Seq {
							t.Fatalf("mark %d leaves out %d, which was taken before", m.Seq, seq)
						}
					}
					a.marked = m.Seq
				}
			}
			for s, a := range accounts {
				if c := r.Credit(s); c < a.credit || c <= a.marked {
					t.Fatalf("credit of %s went from %d to %d", s, a.credit, c)
				} else {
					a.credit = c
				}
			}
		}
	})
}

// bounds are those of on_stale drop or admit.
func bounds(maxLag int64, drop bool) paramserver.Bounds {
	b := paramserver.Bounds{MaxLag: maxLag, OnStale: "admit"}
	if drop {
		b.OnStale = "drop"
	}
	return b
}

// TestBoundsInSeconds count from the commit of a version, and never call a
// trajectory older than it is.
func TestBoundsInSeconds(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, int64(s*1e9)) }
	for _, c := range []struct {
		onStale string
		now     float64
		version uint64 // of the trajectory: 10 was committed at 1 s, 20 at 2 s
		want    int
		weight  float64
	}{
		{"drop", 3, 20, 1, 1},
		{"drop", 5, 20, 0, 0},
		{"drop", 3, 10, 1, 1},
		{"drop", 4, 10, 0, 0},
		{"drop", 3, 4, 1, 1},   // older than 10, which is 2 s old: may be dropped from
		{"drop", 4, 4, 0, 0},   // 3.5 s on, when 10 is too old itself
		{"drop", 99, 25, 1, 1}, // not known to be committed
		{"downweight", 3, 20, 1, 1},
		{"downweight", 7, 20, 1, 0.5},
		{"admit", 99, 10, 1, 1},
	} {
		a := paramserver.NewAdmission(8, 8, paramserver.Bounds{MaxAge: 2500 * time.Millisecond, OnStale: c.onStale})
		a.Open("a", 0)
		a.Committed(10, at(1).UnixNano())
		a.Committed(20, at(2).UnixNano())
		offer(t, a, "a", run(1, 1, c.version), 0)
		got := a.Take(1, 30, at(c.now), nil)
		if len(got) != c.want || c.want > 0 && math.Abs(got[0].Weight-c.weight) > 1e-9 {
			t.Errorf("%s, version %d at %v s: got %+v, want %d of weight %v", c.onStale, c.version, c.now, got, c.want, c.weight)
		}
	}
}

// TestDownweight: beyond a bound the weight is the bound over the excess, the
// smaller of two; nothing is dropped, and the marks say admitted.
func TestDownweight(t *testing.T) {
	a := paramserver.NewAdmission(64, 8, paramserver.Bounds{MaxLag: 10, MaxAge: time.Second, OnStale: "downweight"})
	a.Open("a", 0)
	now := time.Unix(100, 0)
	a.Committed(60, now.Add(-4*time.Second).UnixNano())
	a.Committed(95, now.Add(-500*time.Millisecond).UnixNano())
	for i, v := range []uint64{95, 60, 96} {
		offer(t, a, "a", run(uint64(i+1), 1, v), 0)
	}
	got := a.Take(3, 100, now, nil)
	for i, want := range []float64{1, 0.25, 1} { // lag 40 of 10 updates and 4 of 1 seconds: a quarter
		if math.Abs(got[i].Weight-want) > 1e-9 {
			t.Errorf("version %d has weight %v, want %v", got[i].Version, got[i].Weight, want)
		}
	}
	if m := a.Marks(); len(m) != 1 || m[0].Admitted != 3 || m[0].Stale != 0 {
		t.Errorf("marks %+v", m)
	}
	if w := (paramserver.Bounds{MaxLag: 10, MaxAge: time.Second}).Weight(20, 8*time.Second); w != 0.125 {
		t.Errorf("weight %v of a lag twice and an age eight times the bound", w)
	}
}
