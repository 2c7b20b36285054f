package paramserver

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/fanout"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

var (
	_ cluster.ParametersServer = (*Server)(nil)
	_ fanout.Source            = (*Server)(nil)
)

// publication keeps what this node publishes: of each job the newest version, as
// it was encoded for the first follower who asked for it.
type publication struct {
	mu     sync.Mutex
	newest map[string]published // by job
	sent   fanout.Egress
}

// published is a job's newest version, and how the job wants it encoded.
type published struct {
	encoding string
	snapshot *fanout.Snapshot
}

// Follow streams the published versions of a job from this node's replica.
func (s *Server) Follow(req *wire.FollowRequest, stream grpc.ServerStreamingServer[wire.FollowReply]) error {
	return fanout.Send(s, &s.publication.sent, req, stream)
}

// Egress counts the parameters that this node sent to followers.
func (s *Server) Egress() *fanout.Egress { return &s.publication.sent }

// Offer implements fanout.Source: the newest committed version of this replica.
func (s *Server) Offer(ctx context.Context, jobID string) (fanout.Offer, error) {
	changed := s.Replica.Changed()
	j, err := s.mustJob(ctx, jobID)
	if err != nil {
		return fanout.Offer{}, err
	}
	o := fanout.Offer{Route: []string{s.Node}, Changed: changed}
	if j.HasState || over(j) {
		o.Snapshot, err = s.publication.publish(j)
	}
	return o, err
}

// over says whether no newer version of the job will come.
func over(j *fsm.Job) bool {
	return j.Status == fsm.Finished || j.Status == fsm.Stopped || j.Status == fsm.Failed
}

// publish returns the snapshot of a job's state, encoded once.
func (p *publication) publish(j *fsm.Job) (*fanout.Snapshot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, known := p.newest[j.ID]
	if !known {
		spec, err := job.FromJSON(j.Spec)
		if err != nil {
			return nil, fmt.Errorf("job %q: %w", j.ID, err)
		}
		if old.encoding = spec.Mesh.Publish; old.encoding == "" {
			old.encoding = wire.Float32 // a job of the first release
		}
	}
	head := wire.Head{
		Job: j.ID, Position: wire.Position{Generation: j.Generation, Version: j.Version},
		Epoch: j.CommitEpoch, Stamp: j.Committed, Encoding: old.encoding, Final: over(j),
	}
	if s := old.snapshot; s != nil {
		switch {
		case s.Position() == head.Position && s.Head.Final == head.Final:
			return s, nil
		case s.Position() == head.Position: // the same version, and now it is the last
			head.Hash, head.Size = s.Head.Hash, s.Head.Size
			old.snapshot = &fanout.Snapshot{Head: head, Data: s.Data}
			p.newest[j.ID] = old
			return old.snapshot, nil
		case head.Position.Before(s.Position()):
			// Two followers asked at once and the one that looked first came last.
			return s, nil
		}
	}
	s, err := fanout.NewSnapshot(head, j.Params, j.ParamsHash[:])
	if err != nil {
		return nil, fmt.Errorf("job %q: %w", j.ID, err)
	}
	old.snapshot = s
	if p.newest == nil {
		p.newest = map[string]published{}
	}
	p.newest[j.ID] = old
	return s, nil
}

// Subscribe streams every published snapshot after the subscriber's position,
// newest only: a subscriber that is slow skips versions, and never goes back.
func (s *Server) Subscribe(req *wire.SubscribeRequest, stream grpc.ServerStreamingServer[wire.Snapshot]) error {
	after, first := req.After, req.Any
	for {
		changed := s.Replica.Changed()
		j, err := s.mustJob(stream.Context(), req.Job)
		if err != nil {
			return err
		}
		pos := wire.Position{Generation: j.Generation, Version: j.Version}
		over := j.Status == fsm.Finished || j.Status == fsm.Stopped || j.Status == fsm.Failed
		if j.HasState && (first || after.Before(pos)) || over {
			snap := &wire.Snapshot{Job: j.ID, Position: pos, Epoch: j.Epoch, Stamp: j.Committed, Hash: j.ParamsHash[:], Params: j.Params, Final: over}
			if err := stream.Send(snap); err != nil {
				return err
			}
			after, first = pos, false
			if over {
				return nil
			}
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}
