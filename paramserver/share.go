package paramserver

import (
	"context"
	"fmt"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// needsLevel2 is what a cluster must have before a job may differ in what an
// older server does not know.
const needsLevel2 = " until every server is upgraded (it needs feature level 2)"

// restOfEntry is left for marks, objects and counters in a Commit of one log entry.
const restOfEntry = 2 << 20

// fill completes a job that is to be created with what feature level 2 has, and
// refuses what the cluster's level does not: a share, and a state of more bytes
// than one log entry takes.
func (s *Server) fill(ctx context.Context, c *fsm.CreateJob, spec *job.Spec, size int64) error {
	if spec.Mesh.Weight != 1 {
		c.Weight = spec.Mesh.Weight
	}
	c.Priority = spec.Mesh.Priority
	if fsm.Level(c) < 2 && size+restOfEntry <= fsm.MaxWhole {
		return nil
	}
	if ok, err := s.level2(ctx); ok || err != nil {
		return err
	}
	switch {
	case c.Weight != 0:
		return fielderr.New("mesh.weight", c.Weight, "1"+needsLevel2)
	case c.Priority != 0:
		return fielderr.New("mesh.priority", c.Priority, "0"+needsLevel2)
	}
	path, value := spec.Policy.Size()
	return fielderr.New(path, value, fmt.Sprintf("a smaller network%s: its parameters and moments take %.1f MiB, and a state travels in one log entry of at most %d",
		needsLevel2, float64(size)/(1<<20), fsm.MaxWhole>>20))
}

// level2 says whether the cluster has activated feature level 2. Only the
// leader says no: another one may not know yet.
func (s *Server) level2(ctx context.Context) (bool, error) {
	level := func() (n uint8) {
		s.Replica.Read(func(st *fsm.State) { n = st.FeatureLevel() })
		return n
	}
	if level() >= 2 {
		return true, nil
	}
	if !s.Replica.IsLeader() {
		return false, s.notLeader()
	}
	if err := s.linearize(ctx); err != nil {
		return false, err
	}
	return level() >= 2, nil
}

// setShare changes the weight or the priority of a job. What the request leaves
// out stays as it is.
func (s *Server) setShare(ctx context.Context, req *wire.ControlRequest) (*wire.ControlReply, error) {
	if !s.Replica.IsLeader() {
		return nil, s.notLeader()
	}
	s.division.sharing.Lock()
	defer s.division.sharing.Unlock()
	j, err := s.mustJob(ctx, req.Job)
	if err != nil {
		return nil, err
	}
	c := &fsm.SetShare{Job: req.Job, Weight: j.Weight, Priority: j.Priority, Stamp: s.Clock.Now().UnixNano()}
	if req.Weight != nil {
		c.Weight = *req.Weight
	}
	if req.Priority != nil {
		c.Priority = *req.Priority
	}
	var bad error
	switch ok, err := s.level2(ctx); {
	case err != nil:
		return nil, err
	case !(c.Weight > 0 && c.Weight <= fsm.MaxWeight): // also NaN
		bad = fielderr.New("weight", c.Weight, "a number above 0 and at most 1000000")
	case c.Priority < -fsm.MaxPriority || c.Priority > fsm.MaxPriority:
		bad = fielderr.New("priority", c.Priority, "an integer from -1000 to 1000")
	case !ok:
		bad = fielderr.New("share", req.Job, "no change"+needsLevel2)
	}
	if bad != nil {
		return nil, bad
	}
	_, err = s.apply(ctx, c)
	return &wire.ControlReply{}, err
}
