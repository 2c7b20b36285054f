package paramserver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// compareEvery is how often a replica compares its hash chain with the others'.
const compareEvery = 2 * time.Second

// compareLoop compares this replica's hash chain with those of its peers, at the
// start and every two seconds. A replica that differs from the majority of voters
// stops. Where there is no majority nobody can say who is right: the leader
// pauses the jobs and leaves the decision to the operator.
func (m *Membership) compareLoop(ctx context.Context) {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	var divided uint64 // index of the division that jobs were paused for
	for {
		c, err := m.compare(ctx)
		switch {
		case err != nil:
			m.Logger.Debug("hash chains not compared", "error", err)
		case c.Agreement == replica.Diverged:
			m.Replica.Fail(replica.Divergence(m.Node, c))
			return
		case c.Agreement == replica.Divided:
			if c.Index != divided {
				m.Logger.Error("the voters hold different states and no majority holds one: jobs are paused; compare `driftmesh status` of the servers and restore a backup",
					"index", c.Index, "with", c.With, "against", c.Against)
			}
			if m.Replica.IsLeader() && m.pauseJobs(ctx, c) {
				divided = c.Index
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// compare asks every other member at once; those that do not answer in time, or
// are of another generation, count as silent.
func (m *Membership) compare(ctx context.Context) (replica.Comparison, error) {
	servers, err := m.Replica.Servers()
	if err != nil {
		return replica.Comparison{}, err
	}
	chains := map[string]replica.Chain{}
	var generation uint64
	m.Replica.Read(func(s *fsm.State) {
		generation = s.Generation()
		own := replica.Chain{}
		for _, c := range s.Checkpoints() {
			own[c.Index] = c.Chain
		}
		chains[m.Node] = own
	})
	var mu sync.Mutex
	var asking sync.WaitGroup
	var voters []string
	for _, s := range servers {
		if !s.Voter {
			continue
		}
		voters = append(voters, s.ID)
		if s.ID == m.Node {
			continue
		}
		asking.Go(func() {
			reply, err := m.Peers.chain(ctx, s.ID)
			if err != nil || reply.Node != s.ID || reply.Generation != generation {
				return
			}
			chain := replica.Chain{}
			for _, p := range reply.Checkpoints {
				if len(p.Chain) == len(fsm.Hash{}) {
					chain[p.Index] = fsm.Hash(p.Chain)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			chains[s.ID] = chain
		})
	}
	asking.Wait()
	return replica.Compare(m.Node, voters, chains), nil
}

// pauseJobs pauses every running job and says whether all are.
func (m *Membership) pauseJobs(ctx context.Context, c replica.Comparison) bool {
	var running []*fsm.Job
	m.Replica.Read(func(s *fsm.State) {
		for _, j := range s.Jobs() {
			if j.Status == fsm.Running {
				running = append(running, j)
			}
		}
	})
	reason := fmt.Sprintf("the voters hold different states at index %d and no majority holds one (%d against %d): which is right is not known", c.Index, c.With, c.Against)
	for _, j := range running {
		cmd := &fsm.SetStatus{Job: j.ID, Status: fsm.Paused, Reason: reason, Fence: true, Stamp: m.Clock.Now().UnixNano()}
		if _, err := m.Replica.Apply(ctx, cmd); err != nil {
			m.Logger.Error("job not paused", "job", j.ID, "error", err)
			return false
		}
		m.Logger.Error("job paused", "job", j.ID, "epoch", j.Epoch, "version", j.Version, "reason", reason)
	}
	return true
}
