package paramserver

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// shareTurn is how long a slot stays with a job when there are more jobs than slots.
const shareTurn = 10 * time.Second

// Assign streams what a slot should sample for, while this node leads, and
// repeats it twice a second: a slot that hears nothing looks for another leader.
func (s *Server) Assign(req *wire.AssignRequest, stream grpc.ServerStreamingServer[wire.Assignment]) error {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	var last wire.Assignment
	for repeat := true; ; {
		changed := s.Replica.Changed()
		if !s.Replica.IsLeader() {
			return s.notLeader()
		}
		next := s.assignment(req)
		if repeat || last.Job != next.Job || last.LearnerAddr != next.LearnerAddr {
			if err := stream.Send(next); err != nil {
				return err
			}
			last = *next
		}
		select {
		case <-changed:
			repeat = false
		case <-tick.C:
			repeat = true
		case <-stream.Context().Done():
			return nil
		}
	}
}

// assignment deals the slots of all live workers to the running jobs in turn.
func (s *Server) assignment(req *wire.AssignRequest) *wire.Assignment {
	var open []*fsm.Job
	for _, j := range s.jobs() {
		if j.Status == fsm.Running && j.LearnerAddr != "" && j.HasState {
			open = append(open, j)
		}
	}
	if len(open) == 0 {
		return &wire.Assignment{}
	}
	j := open[deal(s.Mesh.Members(), req.Worker, req.Slot, len(open), s.Clock.Now())]
	return &wire.Assignment{Job: j.ID, Spec: j.Spec, LearnerAddr: j.LearnerAddr}
}

// deal returns which of n jobs a slot works for: slots are numbered through,
// by worker and then by slot, and take the jobs in turn, so that every job has
// its share. With fewer slots than jobs the deal moves on every shareTurn.
func deal(members []cluster.Member, worker string, slot, n int, now time.Time) int {
	slices.SortFunc(members, func(a, b cluster.Member) int { return cmp.Compare(a.ID, b.ID) })
	rank, total := slot, 0
	for _, m := range members {
		if m.State != cluster.Alive || m.Role != cluster.RoleWorker {
			continue
		}
		if m.ID < worker {
			rank += m.Slots
		}
		total += m.Slots
	}
	if total < n {
		rank += int(now.Unix() / int64(shareTurn/time.Second) * int64(max(1, total)) % int64(n))
	}
	return rank % n
}
