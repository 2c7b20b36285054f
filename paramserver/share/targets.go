package share

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// targets says how many of n slots each job should hold; have is what they hold
// now. jobs are sorted by falling priority, then by ID.
func (m *Machine) targets(jobs []Job, n int, have map[string]int, now time.Time) map[string]int {
	out := make(map[string]int, len(jobs))
	if n >= len(jobs) {
		m.rota = rota{}
		for _, j := range jobs {
			out[j.ID] = 1
		}
		for rest := jobs; len(rest) > 0; {
			c := class(rest)
			rest = rest[len(c):]
			n -= capped(c, n-len(rest), have, out)
		}
		return out
	}
	for rest := jobs; ; {
		c := class(rest)
		if len(c) > n {
			m.rota.deal(c, n, m.turn, have, now, out)
			return out
		}
		for _, j := range c {
			out[j.ID] = 1
		}
		n -= len(c)
		rest = rest[len(c):]
	}
}

// class is the jobs of the priority that the first one has.
func class(jobs []Job) []Job {
	n := slices.IndexFunc(jobs, func(j Job) bool { return j.Priority != jobs[0].Priority })
	if n < 0 {
		return jobs
	}
	return jobs[:n]
}

// capped writes how many of n slots, at least as many as jobs, each job gets, and
// returns how many those are: what one job may not take the others share.
func capped(jobs []Job, n int, have, out map[string]int) (used int) {
	open := slices.Clone(jobs)
	for full := true; full && len(open) > 0; {
		apportion(open, n-used, have, out)
		full = false
		open = slices.DeleteFunc(open, func(j Job) bool {
			if j.Most == 0 || out[j.ID] < j.Most {
				return false
			}
			full = full || out[j.ID] > j.Most
			out[j.ID] = j.Most
			used += j.Most
			return true
		})
	}
	for _, j := range open {
		used += out[j.ID]
	}
	return used
}

// apportion writes how many of n slots, at least as many as jobs, each job
// gets: one at least, and otherwise in proportion to the weights, rounded by
// largest remainder. Of equal remainders that of a job which holds the slot
// now is larger.
func apportion(jobs []Job, n int, have, out map[string]int) {
	// Who is owed less than one slot gets one; the others share what is left,
	// which may leave another one with less than one.
	open := slices.Clone(jobs)
	for small := -1; small != 0; {
		total, left := weights(open), float64(n)
		before := len(open)
		open = slices.DeleteFunc(open, func(j Job) bool {
			if left*j.Weight/total >= 1 {
				return false
			}
			out[j.ID] = 1
			n--
			return true
		})
		small = before - len(open)
	}
	total, left := weights(open), n
	remainder := make(map[string]float64, len(open))
	for _, j := range open {
		quota := float64(n) * j.Weight / total
		whole := math.Floor(quota)
		out[j.ID], remainder[j.ID] = int(whole), quota-whole
		left -= int(whole)
	}
	slices.SortStableFunc(open, func(a, b Job) int {
		holds := func(j Job) int { return min(1, max(0, have[j.ID]-out[j.ID])) }
		return cmp.Or(cmp.Compare(remainder[b.ID], remainder[a.ID]), cmp.Compare(holds(b), holds(a)))
	})
	for _, j := range open[:left] {
		out[j.ID]++
	}
}

func weights(jobs []Job) (sum float64) {
	for _, j := range jobs {
		sum += j.Weight
	}
	return sum
}

// rota is the turns of jobs of one priority that outnumber their slots.
type rota struct {
	began  time.Time          // of the present turn; zero while no turns are taken
	looked time.Time          // credit is accounted up to here
	quota  map[string]float64 // slots that each job should have, by its weight
	credit map[string]float64 // slot turns that a job is owed; they sum to 0
}

// account notes what the jobs had since the last look.
func (r *rota) account(turn time.Duration, have map[string]int, now time.Time) {
	turns := float64(now.Sub(r.looked)) / float64(turn)
	if r.began.IsZero() || turns <= 0 {
		return
	}
	for id, q := range r.quota {
		r.credit[id] += turns * (q - float64(have[id]))
	}
	r.looked = now
}

// deal writes how many of n slots each of the jobs gets, which are more. A new
// turn gives them to the jobs that are owed most; within a turn those that have
// one keep it.
func (r *rota) deal(jobs []Job, n int, turn time.Duration, have map[string]int, now time.Time, out map[string]int) {
	fresh := r.began.IsZero() || now.Sub(r.began) >= turn || now.Before(r.began)
	if fresh {
		r.began = now
	}
	r.looked = now
	old := r.credit
	total := weights(jobs)
	r.quota, r.credit = make(map[string]float64, len(jobs)), make(map[string]float64, len(jobs))
	for _, j := range jobs { // one that has gone takes its credit with it
		r.quota[j.ID], r.credit[j.ID] = float64(n)*j.Weight/total, old[j.ID]
	}
	owed := func(j Job) float64 { return r.credit[j.ID] + r.quota[j.ID] - float64(out[j.ID]) }
	holds := func(j Job) int { return min(1, max(0, have[j.ID]-out[j.ID])) }
	jobs = slices.Clone(jobs)
	for range n {
		// There are more jobs than slots, so one always has room.
		jobs = slices.DeleteFunc(jobs, func(j Job) bool { return j.Most > 0 && out[j.ID] >= j.Most })
		best := slices.MinFunc(jobs, func(a, b Job) int {
			byHolding, byCredit := cmp.Compare(holds(b), holds(a)), cmp.Compare(owed(b), owed(a))
			if fresh {
				return cmp.Or(byCredit, byHolding)
			}
			return cmp.Or(byHolding, byCredit)
		})
		out[best.ID]++
	}
}
