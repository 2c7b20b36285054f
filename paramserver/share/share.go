// Package share divides the workers' slots among jobs. It is a pure machine:
// what it holds and the events that it is told decide alone what it answers.
//
// Every job holds at least one slot, as long as there are slots enough; what is
// left goes to the jobs of the highest priority, in proportion to their
// weights, up to what a job takes at most; what the first priority does not take goes
// to the next. With fewer slots than jobs, jobs of higher priority take one each,
// and those of the priority at which the slots run out take turns, so that in
// the long run each has a share in proportion to its weight.
package share

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Job is a job that wants slots.
type Job struct {
	ID       string
	Weight   float64 // share among jobs of equal priority; above 0
	Priority int     // the higher one takes slots first
	Most     int     // slots that it takes at most; 0: no bound
}

// Slot is one sampler loop of a worker.
type Slot struct {
	Worker string // node UUID
	Index  int    // of the slot on its worker
}

// Move is a slot that changes its job. From and To are "" for none.
type Move struct {
	Slot     Slot
	From, To string
}

// Machine remembers which slot works for which job, so that a slot changes its
// job only where the shares ask for it: each change costs a session. Equal
// events make equal divisions. Use New.
type Machine struct {
	turn time.Duration
	held map[Slot]string
	rota rota
}

// New returns a machine in which no slot has a job yet. A turn is how long a
// slot stays with its job where there are more jobs than slots.
func New(turn time.Duration) *Machine {
	return &Machine{turn: turn, held: map[Slot]string{}}
}

// Seed tells a new machine what its predecessor had divided, as far as that is
// known, so that slots stay where they are.
func (m *Machine) Seed(held map[Slot]string) { m.held = maps.Clone(held) }

// Job returns the job of a slot, "" for none.
func (m *Machine) Job(s Slot) string { return m.held[s] }

// Held counts the slots of every job that has one.
func (m *Machine) Held() map[string]int {
	out := map[string]int{}
	for _, id := range m.held {
		out[id]++
	}
	return out
}

// Step divides the slots that live now among the jobs that want some now, and
// returns what changes for those slots. Each ID and each slot is listed once.
// As many slots change their job as hold one that has more than its share now.
func (m *Machine) Step(jobs []Job, slots []Slot, now time.Time) []Move {
	jobs, slots = slices.Clone(jobs), slices.Clone(slots)
	slices.SortFunc(jobs, func(a, b Job) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(slots, compareSlots)
	m.rota.account(m.turn, m.Held(), now)

	wanted := make(map[string]bool, len(jobs))
	for _, j := range jobs {
		wanted[j.ID] = true
	}
	before := m.held
	m.held = make(map[Slot]string, len(slots))
	for _, s := range slots {
		if id := before[s]; wanted[id] {
			m.held[s] = id
		}
	}
	m.settle(jobs, slots, m.targets(jobs, len(slots), m.Held(), now))
	var moves []Move
	for _, s := range slots {
		if before[s] != m.held[s] {
			moves = append(moves, Move{Slot: s, From: before[s], To: m.held[s]})
		}
	}
	return moves
}

func compareSlots(a, b Slot) int {
	return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.Index, b.Index))
}

// settle takes slots from jobs that have more than their target and gives the
// free ones to those that have less. A job's slots are spread over workers, so
// that the loss of one does not take all of them.
func (m *Machine) settle(jobs []Job, slots []Slot, targets map[string]int) {
	have, on := m.Held(), map[string]map[string]int{} // on: by worker and job
	for _, s := range slots {
		if on[s.Worker] == nil {
			on[s.Worker] = map[string]int{}
		}
		if id := m.held[s]; id != "" {
			on[s.Worker][id]++
		}
	}
	for _, j := range jobs {
		for have[j.ID] > targets[j.ID] {
			var from Slot
			most := 0
			for _, s := range slots { // the last one of the worker that has most
				if n := on[s.Worker][j.ID]; m.held[s] == j.ID && n >= most {
					from, most = s, n
				}
			}
			delete(m.held, from)
			on[from.Worker][j.ID]--
			have[j.ID]--
		}
	}
	for _, s := range slots {
		if m.held[s] != "" {
			continue
		}
		best := ""
		for _, j := range jobs {
			if have[j.ID] < targets[j.ID] && (best == "" || emptier(j.ID, best, have, targets, on[s.Worker])) {
				best = j.ID
			}
		}
		if best != "" {
			m.held[s] = best
			on[s.Worker][best]++
			have[best]++
		}
	}
}

// emptier says whether job a lacks a greater part of its target than b does, or
// as great a part and has fewer slots on the worker in question.
func emptier(a, b string, have, targets, here map[string]int) bool {
	lackA, lackB := (targets[a]-have[a])*targets[b], (targets[b]-have[b])*targets[a]
	return lackA > lackB || lackA == lackB && here[a] < here[b]
}
