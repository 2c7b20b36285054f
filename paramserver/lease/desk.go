// Package lease decides who trains which job: the leader's soft state, a pure
// machine over events and the time they came at. It grants nothing by itself;
// Step says what to propose, and the replicated state decides. Safety is the
// epoch of a Grant, so nothing here can do more harm than move a job in vain.
package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/driftmesh/driftmesh/internal/job"
)

const (
	// BeatEvery is how often a learner's node and the leader let each other know
	// that they live.
	BeatEvery = 100 * time.Millisecond
	// Expiry is the silence after which either takes the other for lost.
	Expiry = 600 * time.Millisecond
	// Settled is how long a node that only trains must have been connected before
	// it is given what a server trains.
	Settled = 5 * time.Second
	// MaxFailures of a job's learners in a row pause it.
	MaxFailures = 3

	// firstRetry is the pause after a failure; it doubles.
	firstRetry = 200 * time.Millisecond
)

// Node is one that can train: a learner's node, or a server.
type Node struct {
	ID, Addr string // UUID; gRPC address
	// Dedicated says that it only trains. Such nodes come before servers.
	Dedicated bool
	Has       job.Resources // as it probed them itself
}

// Job is what the machine needs to know of a job that is running.
type Job struct {
	ID       string
	Epoch    uint64 // of the present lease
	Learner  string // node that holds it, "" for none
	Priority int    // jobs of higher priority are placed first
	Needs    job.Resources
	Draining bool // it is being stopped or paused: no new grant
}

// Grant is one that is due.
type Grant struct {
	Job        string
	Epoch      uint64
	Node, Addr string
	Reason     string // a sentence for the cluster's history
}

// Plan is what a Step wants done.
type Plan struct {
	Grants  []Grant
	Expired []string // nodes that were silent for too long: end their streams
	// Moves are jobs whose learner is to commit what it has and to end, because a
	// node that only trains can take them.
	Moves   []string
	Waiting map[string]string // why a job has no learner, by job
}

// Desk is the machine. It serves one term of leadership. The zero value is not
// ready; use New.
type Desk struct {
	self        string
	predecessor string
	began       time.Time
	looked      time.Time // last Step
	nodes       map[string]*node
	failures    map[string]failure
	lost        map[string]string // why a node is gone, by node
	moving      map[string]bool   // jobs that were told to move
}

// node is a connected Node. held are the leases that it has, by job: those that
// it said it had when it connected, and those granted to it since. Messages to a
// node come in order or not at all, so there is no doubt about what it holds.
type node struct {
	Node
	heard, joined time.Time
	held          map[string]uint64
	leaving       bool
}

// failure is what a job's learners failed with lately.
type failure struct {
	count   int       // in a row: without a committed version in between
	version uint64    // committed at the last one
	retry   time.Time // not before
}

// New returns the machine of a leader whose term begins now. predecessor is the
// node that led before, "" if unknown: its leases are over at once, because it
// is the reason for the new term.
func New(self, predecessor string, now time.Time) *Desk {
	return &Desk{
		self: self, predecessor: predecessor, began: now, looked: now,
		nodes: map[string]*node{}, failures: map[string]failure{}, lost: map[string]string{}, moving: map[string]bool{},
	}
}

// Join notes that a node is connected, with the leases that it says it has. It
// takes the place of an older connection of the same node.
func (d *Desk) Join(n Node, held map[string]uint64, now time.Time) {
	d.nodes[n.ID] = &node{Node: n, heard: now, joined: now, held: held}
	delete(d.lost, n.ID)
}

// Heard notes a sign of life.
func (d *Desk) Heard(id string, now time.Time) {
	if n := d.nodes[id]; n != nil {
		n.heard = now
	}
}

// Leaving notes that a node is about to end: it gets nothing more.
func (d *Desk) Leaving(id string) {
	if n := d.nodes[id]; n != nil {
		n.leaving = true
	}
}

// Leave notes that a node is not connected any more, and why.
func (d *Desk) Leave(id, why string) {
	if d.nodes[id] != nil {
		delete(d.nodes, id)
		d.lost[id] = why
	}
}

// Granted notes that a Grant has been applied.
func (d *Desk) Granted(g Grant) {
	if n := d.nodes[g.Node]; n != nil {
		n.held[g.Job] = g.Epoch
	}
	delete(d.moving, g.Job)
}

// Holder returns the connected node that has a job's lease of an epoch, "" for none.
func (d *Desk) Holder(jobID string, epoch uint64) string {
	for id, n := range d.nodes {
		if epoch > 0 && n.held[jobID] == epoch {
			return id
		}
	}
	return ""
}

// Released notes that a learner of a lease has ended; failed says that it could
// not go on. version is the job's committed one. giveUp says that the job should
// be paused: its learners failed again and again.
func (d *Desk) Released(id, jobID string, epoch, version uint64, failed bool, now time.Time) (giveUp bool) {
	n := d.nodes[id]
	if n == nil || epoch == 0 || n.held[jobID] != epoch {
		return false // of a lease that is over already
	}
	delete(n.held, jobID)
	delete(d.moving, jobID)
	f := d.failures[jobID]
	if !failed || version > f.version || f.count >= MaxFailures {
		f = failure{}
	}
	if !failed {
		delete(d.failures, jobID)
		return false
	}
	f.count++
	f.version = version
	f.retry = now.Add(firstRetry << f.count)
	d.failures[jobID] = f
	if f.count < MaxFailures {
		return false
	}
	// Nobody gets the job while it is being paused; Step forgets it then, so that a
	// resumed one starts afresh.
	return true
}

// Failures is how often a job's learners failed in a row.
func (d *Desk) Failures(jobID string) int { return d.failures[jobID].count }

// Step returns what is due, given the jobs that are running.
func (d *Desk) Step(jobs []Job, now time.Time) Plan {
	p := Plan{Waiting: map[string]string{}}
	d.expire(&p, now)
	for id := range d.failures {
		if !slices.ContainsFunc(jobs, func(j Job) bool { return j.ID == id }) {
			delete(d.failures, id)
		}
	}
	jobs = slices.Clone(jobs)
	slices.SortFunc(jobs, func(a, b Job) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.ID, b.ID))
	})
	used := map[string]job.Resources{} // by what nodes hold
	load := map[string]int{}
	moving := map[string]bool{}
	var homeless []Job
	for _, j := range jobs {
		if n := d.nodes[j.Learner]; n != nil && n.held[j.ID] == j.Epoch && j.Epoch > 0 {
			used[n.ID] = plus(used[n.ID], j.Needs)
			load[n.ID]++
			moving[j.ID] = d.moving[j.ID]
			continue
		}
		homeless = append(homeless, j)
	}
	d.moving = moving // what was stopped or lost moves no more
	for _, j := range homeless {
		switch why := d.notNow(j, now); {
		case why != "":
			p.Waiting[j.ID] = why
			continue
		case j.Draining:
			continue
		}
		n, refusal := d.place(j, used, load, false)
		if n == nil {
			p.Waiting[j.ID] = refusal
			continue
		}
		used[n.ID] = plus(used[n.ID], j.Needs)
		load[n.ID]++
		p.Grants = append(p.Grants, Grant{Job: j.ID, Epoch: j.Epoch + 1, Node: n.ID, Addr: n.Addr, Reason: d.reason(j, n)})
	}
	d.move(&p, jobs, used, load, now)
	return p
}

// expire finds the nodes that were silent for too long. A leader that stood
// still itself must not blame others for it.
func (d *Desk) expire(p *Plan, now time.Time) {
	if still := now.Sub(d.looked); still > Expiry/2 {
		for _, n := range d.nodes {
			n.heard = n.heard.Add(still)
		}
	}
	d.looked = now
	for _, id := range sorted(d.nodes) {
		if n := d.nodes[id]; id != d.self && now.Sub(n.heard) > Expiry {
			p.Expired = append(p.Expired, id)
			d.Leave(id, fmt.Sprintf("said nothing for %d ms", now.Sub(n.heard).Milliseconds()))
		}
	}
}

// notNow says why a job without a learner must wait before it gets one; "" if it
// need not. A new leader gives the learners that it finds time to connect.
func (d *Desk) notNow(j Job, now time.Time) string {
	if f := d.failures[j.ID]; now.Before(f.retry) {
		return fmt.Sprintf("its learner failed %s in a row; a short pause", times(f.count))
	}
	known := d.nodes[j.Learner] != nil || d.lost[j.Learner] != ""
	if j.Learner != "" && !known && j.Learner != d.predecessor && j.Learner != d.self && now.Sub(d.began) < Expiry {
		return "its learner has not yet found the new leader"
	}
	return ""
}

// roomy says that a node only trains and has a processor for another job.
func (n *node) roomy(load map[string]int) bool {
	return n.Dedicated && load[n.ID] < max(1, n.Has.CPUs)
}

// place chooses the node for a job: one that only trains and has a processor
// free, then the one with the fewest jobs for its processors, then the leader.
// roomy leaves all but the first kind out. Without one the text says what is
// missing.
func (d *Desk) place(j Job, used map[string]job.Resources, load map[string]int, roomy bool) (*node, string) {
	var best *node
	var lacks []string
	better := func(a, b *node) bool {
		if x, y := a.roomy(load), b.roomy(load); x != y {
			return x
		}
		// load[a]/cpus[a] < load[b]/cpus[b], without division
		x, y := load[a.ID]*max(1, b.Has.CPUs), load[b.ID]*max(1, a.Has.CPUs)
		if x != y {
			return x < y
		}
		return a.ID == d.self && b.ID != d.self
	}
	for _, id := range sorted(d.nodes) {
		n := d.nodes[id]
		if n.leaving || roomy && !n.roomy(load) {
			continue
		}
		if short := shortage(n.Has, used[id], j.Needs); short != "" {
			lacks = append(lacks, fmt.Sprintf("%.8s: %s", id, short))
			continue
		}
		if best == nil || better(n, best) {
			best = n
		}
	}
	switch {
	case best != nil:
		return best, ""
	case len(lacks) == 0:
		return nil, "no node that trains is connected"
	}
	return nil, "no node has what it needs: " + strings.Join(lacks[:min(len(lacks), 8)], "; ")
}

// move finds jobs that a server trains although a node that only trains could.
// One moves at a time.
func (d *Desk) move(p *Plan, jobs []Job, used map[string]job.Resources, load map[string]int, now time.Time) {
	for _, under := range d.moving {
		if under {
			return
		}
	}
	for _, j := range jobs {
		n := d.nodes[j.Learner]
		if n == nil || n.Dedicated || n.held[j.ID] != j.Epoch || j.Draining {
			continue
		}
		to, _ := d.place(j, used, load, true)
		if to == nil || now.Sub(to.joined) < Settled {
			continue
		}
		d.moving[j.ID] = true
		p.Moves = append(p.Moves, j.ID)
		return
	}
}

// reason says in a sentence why a node gets a job.
func (d *Desk) reason(j Job, n *node) string {
	var why string
	switch before := j.Learner; {
	case before == "":
		why = "it had no learner"
	case d.lost[before] != "":
		why = fmt.Sprintf("%.8s %s", before, d.lost[before])
	case before == n.ID:
		why = "its learner there has ended"
	case d.nodes[before] != nil:
		why = fmt.Sprintf("its learner on %.8s has ended", before)
	case before == d.predecessor:
		why = fmt.Sprintf("%.8s leads no more", before)
	default:
		why = fmt.Sprintf("%.8s did not find the new leader", before)
	}
	switch {
	case n.Dedicated:
		return why + "; a node that only trains"
	case n.ID == d.self:
		return why + "; the leader"
	}
	return why + "; the server with the fewest jobs"
}

// shortage says what a node lacks for a job beside those that it has; "" if nothing.
func shortage(has, used, needs job.Resources) string {
	var short []string
	for _, r := range []struct {
		what             string
		has, used, needs int
	}{
		{"CPUs", has.CPUs, used.CPUs, needs.CPUs},
		{"MiB of memory", has.MemoryMB, used.MemoryMB, needs.MemoryMB},
		{"GPUs", has.GPUs, used.GPUs, needs.GPUs},
	} {
		if r.needs > 0 && r.has-r.used < r.needs {
			short = append(short, fmt.Sprintf("%d of %d %s free, %d needed", max(0, r.has-r.used), r.has, r.what, r.needs))
		}
	}
	return strings.Join(short, ", ")
}

func plus(a, b job.Resources) job.Resources {
	return job.Resources{CPUs: a.CPUs + b.CPUs, MemoryMB: a.MemoryMB + b.MemoryMB, GPUs: a.GPUs + b.GPUs}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func sorted(nodes map[string]*node) []string {
	ids := make([]string, 0, len(nodes))
	for id := range nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
