package paramserver

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/share"
)

const (
	// shareTurn is how long a slot stays with a job when there are more jobs than slots.
	shareTurn = 10 * time.Second
	// attendanceGrace is how long a slot whose stream broke off keeps its job: a
	// worker whose connection was reset asks again after a tenth of a second.
	attendanceGrace = 300 * time.Millisecond
	// takeover is how long a new leader waits for slots that it knows of and that
	// have not asked yet: a worker that has lost a leader in silence notices
	// within two seconds.
	takeover = 3 * time.Second
	// divideEvery bounds how long the division goes without a look at what makes
	// no log entry, such as the end of a grace.
	divideEvery = 100 * time.Millisecond
)

// division is the leader's soft state: which slot samples for which job. A
// slot lives while it listens to the leader's assignments; a killed process
// resets that stream at once, and one that is stopped or cut off does not
// answer its pings for two seconds.
type division struct {
	mu      sync.Mutex
	machine *share.Machine // nil while this node does not lead
	term    uint64         // in which it leads
	since   time.Time      // this node leads
	seeded  []share.Slot   // had a session when this node began to lead
	slots   map[share.Slot]attendance
	looked  time.Time      // at jobs and slots; zero: they have changed
	index   uint64         // log index up to which the jobs are known
	jobs    []share.Job    // that wanted slots
	most    map[string]int // slots that each job of jobs takes at most, from its spec
	changed chan struct{}  // closed and renewed when a slot changes its job
	sharing sync.Mutex     // one change of a share after the other
}

// attendance is a slot that takes its assignments here.
type attendance struct {
	streams int
	left    time.Time // when the last stream ended
}

// Assign streams what a slot should sample for, while this node leads, and
// repeats it twice a second: a slot that hears nothing looks for another leader.
func (s *Server) Assign(req *wire.AssignRequest, stream grpc.ServerStreamingServer[wire.Assignment]) error {
	slot := share.Slot{Worker: req.Worker, Index: req.Slot}
	s.attend(slot, 1)
	defer s.attend(slot, -1)
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	var last wire.Assignment
	for repeat := true; ; {
		applied := s.Replica.Changed()
		next, moved := s.assignment(slot)
		if next == nil {
			return s.notLeader()
		}
		if repeat || last.Job != next.Job || last.LearnerAddr != next.LearnerAddr {
			if err := stream.Send(next); err != nil {
				return err
			}
			last = *next
		}
		select {
		case <-applied:
			repeat = false
		case <-moved:
			repeat = false
		case <-tick.C:
			repeat = true
		case <-stream.Context().Done():
			return nil
		}
	}
}

// attend counts the streams of a slot.
func (s *Server) attend(slot share.Slot, streams int) {
	d := &s.division
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.slots == nil {
		d.slots = map[share.Slot]attendance{}
	}
	a := d.slots[slot]
	a.streams += streams
	a.left = s.Clock.Now()
	d.slots[slot] = a
	d.looked = time.Time{}
}

// assignment says what a slot should sample for, nil where this node does not
// lead. moved is closed when slots change their jobs.
func (s *Server) assignment(slot share.Slot) (out *wire.Assignment, moved <-chan struct{}) {
	d := &s.division
	d.mu.Lock()
	defer d.mu.Unlock()
	if !s.divide() {
		return nil, nil
	}
	j := s.job(d.machine.Job(slot))
	if j == nil || !wantsSlots(j) {
		return &wire.Assignment{}, d.changed
	}
	return &wire.Assignment{Job: j.ID, Spec: j.Spec, LearnerAddr: j.LearnerAddr}, d.changed
}

// held counts the slots of every job; nil where this node does not lead.
func (s *Server) held() map[string]int {
	d := &s.division
	d.mu.Lock()
	defer d.mu.Unlock()
	if !s.divide() {
		return nil
	}
	return d.machine.Held()
}

// wantsSlots says whether samplers have something to do for a job.
func wantsSlots(j *fsm.Job) bool {
	return j.Status == fsm.Running && j.LearnerAddr != "" && j.HasState
}

// divide brings the division up to date and says whether this node leads; the
// lock is held.
func (s *Server) divide() bool {
	d, now := &s.division, s.Clock.Now()
	term := s.Replica.Term()
	if !s.Replica.IsLeader() {
		d.machine = nil
		return false
	}
	if d.machine == nil || d.term != term {
		s.takeOver(term, now)
	}
	var index uint64
	s.Replica.Read(func(st *fsm.State) { index = st.Index() })
	recent := !d.looked.IsZero() && now.Sub(d.looked) < divideEvery
	if recent && index == d.index {
		return true
	}
	var jobs []share.Job
	most := map[string]int{}
	for _, j := range s.jobs() {
		if wantsSlots(j) {
			n, known := d.most[j.ID]
			if !known {
				n = job.MaxSlots(j.Spec)
			}
			most[j.ID] = n
			jobs = append(jobs, share.Job{ID: j.ID, Weight: j.Weight, Priority: j.Priority, Most: n})
		}
	}
	d.most = most
	d.index = index
	if recent && slices.Equal(jobs, d.jobs) { // as after most commits
		return true
	}
	d.looked, d.jobs = now, jobs
	moves := d.machine.Step(jobs, d.live(s.Mesh.Members(), now), now)
	for _, m := range moves {
		s.Logger.Debug("slot assigned", "worker", m.Slot.Worker, "slot", m.Slot.Index, "job", m.To, "before", m.From)
	}
	if len(moves) > 0 {
		close(d.changed)
		d.changed = make(chan struct{})
	}
	return true
}

// takeOver begins with the division that the open sessions show.
func (s *Server) takeOver(term uint64, now time.Time) {
	d := &s.division
	held, opened := map[share.Slot]string{}, map[share.Slot]int64{}
	s.Replica.Read(func(st *fsm.State) {
		for _, j := range st.Jobs() {
			for _, x := range st.OpenSessions(j.ID) {
				if slot := (share.Slot{Worker: x.Worker, Index: x.Slot}); wantsSlots(j) && x.Opened >= opened[slot] {
					held[slot], opened[slot] = j.ID, x.Opened
				}
			}
		}
	})
	d.machine, d.term, d.since, d.looked = share.New(shareTurn), term, now, time.Time{}
	d.machine.Seed(held)
	d.seeded = d.seeded[:0]
	for slot := range held {
		d.seeded = append(d.seeded, slot)
	}
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
}

// live lists the slots that take part.
func (d *division) live(members []cluster.Member, now time.Time) []share.Slot {
	gone, live := map[string]bool{}, map[share.Slot]bool{}
	for _, m := range members {
		gone[m.ID] = m.State != cluster.Alive
	}
	early := now.Sub(d.since) < takeover
	if early {
		for _, slot := range d.seeded {
			live[slot] = !gone[slot.Worker]
		}
		for _, m := range members {
			for i := range m.Slots {
				live[share.Slot{Worker: m.ID, Index: i}] = m.Role == cluster.RoleWorker && !gone[m.ID]
			}
		}
	}
	for slot, a := range d.slots {
		switch {
		case a.streams > 0:
			live[slot] = true // whatever gossip says: it listens
		case !gone[slot.Worker] && now.Sub(a.left) < attendanceGrace:
			live[slot] = true
		case early:
			live[slot] = false // it was here, so it is not on its way
		default:
			delete(d.slots, slot)
		}
	}
	out := make([]share.Slot, 0, len(live))
	for slot, ok := range live {
		if ok {
			out = append(out, slot)
		}
	}
	return out
}
