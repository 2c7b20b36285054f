package share_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/paramserver/share"
)

const turn = 10 * time.Second

var start = time.Unix(1_000_000, 0)

func slotsOf(sizes ...int) (out []share.Slot) {
	for w, n := range sizes {
		for i := range n {
			out = append(out, share.Slot{Worker: fmt.Sprintf("worker-%d", w), Index: i})
		}
	}
	return out
}

func drawJobs(t *rapid.T, least, most int) (out []share.Job) {
	for i := range rapid.IntRange(least, most).Draw(t, "jobs") {
		out = append(out, share.Job{
			ID:       fmt.Sprintf("job-%02d", i),
			Weight:   rapid.SampledFrom([]float64{0.1, 0.3, 1, 1, 2, 3, 7.5, 100}).Draw(t, "weight"),
			Priority: rapid.IntRange(-1, 1).Draw(t, "priority"),
		})
	}
	return out
}

func drawSlots(t *rapid.T) []share.Slot {
	return slotsOf(rapid.SliceOfN(rapid.IntRange(0, 6), 0, 6).Draw(t, "workers")...)
}

func level(jobs []share.Job) {
	for i := range jobs {
		jobs[i].Priority = 0
	}
}

// TestShares: what an operator reads off the documentation.
func TestShares(t *testing.T) {
	for name, c := range map[string]struct {
		jobs  []share.Job
		slots int
		want  map[string]int
	}{
		"1:3 of 8":                    {[]share.Job{{"a", 1, 0, 0}, {"b", 3, 0, 0}}, 8, map[string]int{"a": 2, "b": 6}},
		"0.1:0.3 of 8":                {[]share.Job{{"a", 0.1, 0, 0}, {"b", 0.3, 0, 0}}, 8, map[string]int{"a": 2, "b": 6}},
		"largest remainder":           {[]share.Job{{"a", 5, 0, 0}, {"b", 3, 0, 0}, {"c", 1, 0, 0}}, 10, map[string]int{"a": 6, "b": 3, "c": 1}},
		"one slot for the lightest":   {[]share.Job{{"a", 1, 0, 0}, {"b", 1000, 0, 0}}, 8, map[string]int{"a": 1, "b": 7}},
		"many light ones":             {[]share.Job{{"a", 1, 0, 0}, {"b", 1, 0, 0}, {"c", 1, 0, 0}, {"d", 1000, 0, 0}}, 8, map[string]int{"a": 1, "b": 1, "c": 1, "d": 5}},
		"priority takes the rest":     {[]share.Job{{"a", 9, 0, 0}, {"b", 1, 1, 0}, {"c", 1, -5, 0}}, 8, map[string]int{"a": 1, "b": 6, "c": 1}},
		"weights within the priority": {[]share.Job{{"a", 9, 0, 0}, {"b", 1, 1, 0}, {"c", 2, 1, 0}}, 10, map[string]int{"a": 1, "b": 3, "c": 6}},
		"priority where slots lack":   {[]share.Job{{"a", 9, 0, 0}, {"b", 1, 1, 0}, {"c", 1, 2, 0}}, 2, map[string]int{"b": 1, "c": 1}},
		"a cap":                       {[]share.Job{{"a", 1, 0, 3}, {"b", 1, 0, 0}}, 10, map[string]int{"a": 3, "b": 7}},
		"a cap that does not bind":    {[]share.Job{{"a", 1, 0, 9}, {"b", 1, 0, 0}}, 10, map[string]int{"a": 5, "b": 5}},
		"all capped":                  {[]share.Job{{"a", 1, 0, 1}, {"b", 5, 0, 3}}, 10, map[string]int{"a": 1, "b": 3}},
		"a capped first priority":     {[]share.Job{{"a", 1, 1, 2}, {"b", 1, 0, 4}, {"c", 1, -1, 0}}, 10, map[string]int{"a": 2, "b": 4, "c": 4}},
		"caps by weight":              {[]share.Job{{"a", 4, 0, 2}, {"b", 3, 0, 0}, {"c", 1, 0, 0}}, 10, map[string]int{"a": 2, "b": 6, "c": 2}},
		"a cap where slots lack":      {[]share.Job{{"a", 100, 0, 1}, {"b", 1, 0, 0}, {"c", 1, 0, 0}}, 2, map[string]int{"a": 1, "b": 1}},
		"no slots":                    {[]share.Job{{"a", 1, 0, 0}}, 0, map[string]int{}},
		"no jobs":                     {nil, 3, map[string]int{}},
	} {
		m := share.New(turn)
		m.Step(c.jobs, slotsOf(c.slots), start)
		if got := m.Held(); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestDivision: whatever comes and goes, every live slot has exactly one job
// that wants slots, each job one slot where there are enough, priorities in
// their order, and within the first one shares within one slot of proportional.
func TestDivision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := share.New(turn)
		now := start
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			jobs, slots := drawJobs(t, 0, 7), drawSlots(t)
			m.Step(jobs, slots, now)
			now = now.Add(time.Duration(rapid.IntRange(0, 15).Draw(t, "seconds")) * time.Second)
			held := m.Held()
			for _, s := range slots {
				if len(jobs) > 0 && !slices.ContainsFunc(jobs, func(j share.Job) bool { return j.ID == m.Job(s) }) {
					t.Fatalf("slot %v has job %q of %v", s, m.Job(s), jobs)
				}
			}
			for _, n := range held {
				if len(jobs) == 0 || n > len(slots) {
					t.Fatalf("%v of %d slots", held, len(slots))
				}
			}
			for _, a := range jobs {
				if len(slots) >= len(jobs) && held[a.ID] == 0 {
					t.Fatalf("%s has none of %d slots: %v", a.ID, len(slots), held)
				}
				for _, b := range jobs {
					if a.Priority > b.Priority && (held[b.ID] > 1 && len(slots) >= len(jobs) || held[a.ID] == 0 && held[b.ID] > 0) {
						t.Fatalf("%v before %v has %d slots, the other %d, of %d", a, b, held[a.ID], held[b.ID], len(slots))
					}
				}
			}
			if len(slots) >= len(jobs) && len(jobs) > 0 {
				proportional(t, jobs, held)
			}
		}
	})
}

// proportional compares the jobs of the first priority that have more than the
// slot which everybody has.
func proportional(t *rapid.T, jobs []share.Job, held map[string]int) {
	first := slices.MaxFunc(jobs, func(a, b share.Job) int { return a.Priority - b.Priority }).Priority
	total, sum := 0, 0.0
	for _, j := range jobs {
		if j.Priority == first && held[j.ID] > 1 {
			total += held[j.ID]
			sum += j.Weight
		}
	}
	for _, j := range jobs {
		// One that rounding left at the slot which everybody has may have been
		// owed up to two, so the others share up to one less than they should.
		if j.Priority == first && held[j.ID] > 1 {
			if want := float64(total) * j.Weight / sum; math.Abs(float64(held[j.ID])-want) > 1+1e-9 {
				t.Fatalf("%s has %d slots, want %.3f within one: %v of %v", j.ID, held[j.ID], want, held, jobs)
			}
		}
	}
}

// TestExactShares: where nobody is owed less than a slot, every share is the
// exact quota rounded up or down.
func TestExactShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs := drawJobs(t, 1, 6)
		level(jobs)
		m := share.New(turn)
		m.Step(jobs, drawSlots(t), start) // any history
		slots := drawSlots(t)
		m.Step(jobs, slots, start)
		sum := 0.0
		for _, j := range jobs {
			sum += j.Weight
		}
		for _, j := range jobs {
			if float64(len(slots))*j.Weight/sum < 1 {
				return
			}
		}
		for _, j := range jobs {
			if want := float64(len(slots)) * j.Weight / sum; math.Abs(float64(m.Held()[j.ID])-want) >= 1 {
				t.Fatalf("%s has %d slots, want %.3f: %v", j.ID, m.Held()[j.ID], want, m.Held())
			}
		}
	})
}

// TestMovesAreFew: of the slots that stay, only those change their job that
// their job has beyond its new share; nothing changes without an event.
func TestMovesAreFew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := share.New(turn)
		jobs := drawJobs(t, 0, 6)
		m.Step(jobs, drawSlots(t), start)
		before := map[share.Slot]string{}
		next, slots := drawJobs(t, 0, 6), drawSlots(t)
		kept := map[string]int{} // slots that could stay
		for _, s := range slots {
			before[s] = m.Job(s)
			if slices.ContainsFunc(next, func(j share.Job) bool { return j.ID == before[s] }) {
				kept[before[s]]++
			}
		}
		moves := m.Step(next, slots, start)
		excess, moved := 0, 0
		for id, n := range kept {
			excess += max(0, n-m.Held()[id])
		}
		for _, move := range moves {
			if move.From != before[move.Slot] || move.To != m.Job(move.Slot) || move.From == move.To {
				t.Fatalf("%+v: had %q, has %q", move, before[move.Slot], m.Job(move.Slot))
			}
			if kept[move.From] > 0 {
				moved++
			}
		}
		if moved != excess {
			t.Fatalf("%d slots moved where %d had to", moved, excess)
		}
		if again := m.Step(next, slots, start.Add(time.Second)); len(again) > 0 {
			t.Fatalf("%v without an event", again)
		}
	})
}

// TestCaps: no job has more slots than it may have, nobody has fewer for
// another's cap, and slots are idle only where every job has all that it may.
func TestCaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs, slots := drawJobs(t, 1, 6), drawSlots(t)
		free, capped := share.New(turn), share.New(turn)
		free.Step(jobs, slots, start)
		room := 0
		for i := range jobs {
			if jobs[i].Most = rapid.IntRange(0, 5).Draw(t, "most"); jobs[i].Most == 0 {
				room += len(slots)
			}
			room += jobs[i].Most
		}
		capped.Step(jobs, slots, start)
		held, total := capped.Held(), 0
		for _, j := range jobs {
			total += held[j.ID]
			if j.Most > 0 && held[j.ID] > j.Most {
				t.Fatalf("%s has %d slots of at most %d", j.ID, held[j.ID], j.Most)
			}
			if j.Most == 0 && held[j.ID] < free.Held()[j.ID] && len(slots) >= len(jobs) {
				t.Fatalf("%s has %d slots, and %d without the caps of others: %v", j.ID, held[j.ID], free.Held()[j.ID], jobs)
			}
		}
		if total != min(room, len(slots)) {
			t.Fatalf("%d of %d slots work, room for %d: %v of %v", total, len(slots), room, held, jobs)
		}
	})
}

// TestOneWorkerLess: when a worker dies, no more of the other slots change
// their job than it had slots, and one for each job that rounding touches.
func TestOneWorkerLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs := drawJobs(t, 1, 6)
		m := share.New(turn)
		sizes := rapid.SliceOfN(rapid.IntRange(1, 6), 2, 6).Draw(t, "workers")
		slots := slotsOf(sizes...)
		m.Step(jobs, slots, start)
		dead := fmt.Sprintf("worker-%d", rapid.IntRange(0, len(sizes)-1).Draw(t, "dead"))
		left := slices.DeleteFunc(slices.Clone(slots), func(s share.Slot) bool { return s.Worker == dead })
		for _, direction := range [][]share.Slot{left, slots} { // it dies, and comes back
			moved := 0
			for _, move := range m.Step(jobs, direction, start) {
				if move.Slot.Worker != dead {
					moved++
				}
			}
			if most := len(slots) - len(left) + len(jobs); moved > most {
				t.Fatalf("%d of the others' slots moved, at most %d", moved, most)
			}
		}
	})
}

// TestDeterminism: the order in which jobs and slots are listed means nothing,
// and a machine that is seeded with the state of another one changes nothing.
func TestDeterminism(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := share.New(turn), share.New(turn)
		var jobs []share.Job
		var slots []share.Slot
		now := start
		for range 4 {
			jobs, slots = drawJobs(t, 0, 6), drawSlots(t)
			moves := a.Step(jobs, slots, now)
			if other := b.Step(rapid.Permutation(jobs).Draw(t, "jobs"), rapid.Permutation(slots).Draw(t, "slots"), now); !slices.Equal(moves, other) {
				t.Fatalf("%v and %v", moves, other)
			}
			now = now.Add(7 * time.Second)
		}
		if len(slots) < len(jobs) {
			return // a successor begins a new turn
		}
		held := map[share.Slot]string{{Worker: "gone"}: "gone"}
		for _, s := range slots {
			held[s] = a.Job(s)
		}
		c := share.New(turn)
		c.Seed(held)
		if moves := c.Step(jobs, slots, now); len(moves) > 0 {
			t.Fatalf("a successor moves %v", moves)
		}
	})
}

// TestTurns: with fewer slots than jobs, in the long run each has what its
// weight says, however irregular the looks.
func TestTurns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs := drawJobs(t, 2, 8)
		level(jobs)
		slots := slotsOf(rapid.IntRange(1, len(jobs)-1).Draw(t, "slots"))
		m := share.New(turn)
		served, sum := map[string]float64{}, 0.0
		for _, j := range jobs {
			sum += j.Weight
		}
		now, last := start, start
		changes := 0
		for now.Sub(start) < 200*turn {
			if len(m.Step(jobs, slots, now)) > 0 && now.Sub(last) < turn && changes > 0 {
				t.Fatalf("slots move after %v, within a turn", now.Sub(last))
			} else if now.Sub(last) >= turn {
				last = now
			}
			changes++
			step := time.Duration(rapid.IntRange(100, 4000).Draw(t, "ms")) * time.Millisecond
			for id, n := range m.Held() {
				served[id] += float64(n) * step.Seconds() / turn.Seconds()
			}
			now = now.Add(step)
		}
		turns := now.Sub(start).Seconds() / turn.Seconds()
		for _, j := range jobs {
			// A turn lasts up to 14 s here, and 1.4 turns is what one slot gives too much.
			want := turns * float64(len(slots)) * j.Weight / sum
			if math.Abs(served[j.ID]-want) > 1.4*float64(len(jobs)) {
				t.Fatalf("%s was served %.1f slot turns of %.0f, want %.1f: %v", j.ID, served[j.ID], turns*float64(len(slots)), want, served)
			}
		}
	})
}

// TestALostSlotWithinATurn: the others keep theirs.
func TestALostSlotWithinATurn(t *testing.T) {
	m := share.New(turn)
	jobs := []share.Job{{"a", 1, 0, 0}, {"b", 1, 0, 0}, {"c", 1, 0, 0}, {"d", 1, 0, 0}}
	m.Step(jobs, slotsOf(1, 1, 1), start)
	if moves := m.Step(jobs, slotsOf(1, 1), start.Add(time.Second)); len(moves) > 0 {
		t.Errorf("%v", moves)
	}
	m.Step(jobs, slotsOf(1, 1), start.Add(11*time.Second))
	if held := m.Held(); held["d"] != 1 {
		t.Errorf("the job that waited has no turn: %v", held)
	}
}
