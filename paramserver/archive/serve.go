package archive

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// maxArriving bounds the segments that a node receives at a time, each of which
// it holds in memory.
const maxArriving = 16

// Admit implements cluster.ArchiveServer: a node takes what is listed, and what a
// learner that is not fenced may still list.
func (n *Node) Admit(name *wire.SegmentName) (release func(), err error) {
	if err := n.admissible(name); err != nil {
		return nil, err
	}
	if n.arriving.Add(1) > maxArriving {
		n.arriving.Add(-1)
		return nil, fmt.Errorf("%w: this node receives %d segments already", cluster.ErrUnavailable, maxArriving)
	}
	return func() { n.arriving.Add(-1) }, nil
}

func (n *Node) admissible(name *wire.SegmentName) error {
	if n.Store.Shared() {
		return fmt.Errorf("%w: this node keeps segments in a bucket", cluster.ErrConflict)
	}
	made, ok := ParseName(name.ID)
	if !ok {
		return fmt.Errorf("%w: %q is no segment's name", cluster.ErrInvalid, name.ID)
	}
	if made.Tag != tag(fsm.Hash(name.Hash)) {
		return fmt.Errorf("%w: segment %s has the hash %.8x", cluster.ErrInvalid, name.ID, name.Hash)
	}
	var known, fenced, listed bool
	var epoch uint64
	n.State.Read(func(s *fsm.State) {
		var j *fsm.Job
		if j, known = s.Job(name.Job); known && made.Fenced(j.Generation, j.Epoch) {
			epoch, fenced = j.Epoch, true
			_, listed = s.Segment(name.Job, name.ID)
		}
	})
	switch {
	case !known:
		return fmt.Errorf("%w: this node does not know job %q yet", cluster.ErrUnavailable, name.Job)
	case fenced && !listed:
		return fmt.Errorf("%w: segment %s is of epoch %d, %d is in force", cluster.ErrFenced, name.ID, made.Epoch, epoch)
	}
	return nil
}

// Put implements cluster.ArchiveServer.
func (n *Node) Put(ctx context.Context, name *wire.SegmentName, data []byte) error {
	return n.Store.Put(ctx, name.Job, name.ID, data)
}

// Get implements cluster.ArchiveServer.
func (n *Node) Get(ctx context.Context, r *wire.GetSegmentRequest) ([]byte, error) {
	var data []byte
	var err error
	if !r.Anywhere {
		data, err = n.Store.Get(ctx, &r.Segment)
		if errors.Is(err, ErrSegment) {
			n.Logger.Error("an archive segment is damaged here", "job", r.Segment.Job, "segment", r.Segment.ID, "error", err)
		}
	} else {
		g := &fsm.Segment{ID: r.Segment.ID, Hash: fsm.Hash(r.Segment.Hash), Bytes: r.Segment.Size}
		n.State.Read(func(s *fsm.State) {
			if listed, ok := s.Segment(r.Segment.Job, g.ID); ok {
				g.Nodes = listed.Nodes
			}
		})
		data, err = n.Fetch(ctx, r.Segment.Job, g)
	}
	if errors.Is(err, ErrNotHeld) || errors.Is(err, ErrSegment) {
		return nil, fmt.Errorf("%w: %w", cluster.ErrNotFound, err)
	}
	return data, err
}

// Holds implements cluster.ArchiveServer. A segment of another size than is listed
// is not held.
func (n *Node) Holds(ctx context.Context, r *wire.HoldsRequest) (*wire.HoldsReply, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	listed := map[string]int64{}
	n.State.Read(func(s *fsm.State) {
		for _, g := range s.Segments(r.Job) {
			listed[g.ID] = g.Bytes
		}
	})
	out := &wire.HoldsReply{Held: make([]bool, len(r.Segments))}
	for i, id := range r.Segments {
		size, err := n.Store.Size(ctx, r.Job, id)
		if err != nil {
			return nil, err
		}
		want, known := listed[id]
		out.Held[i] = size >= 0 && (!known || size == want)
	}
	return out, nil
}

// job waits for a state that contains everything answered before, and calls f
// with it.
func (n *Node) job(ctx context.Context, id string, f func(*fsm.State, *fsm.Job)) error {
	if err := n.State.Linearize(ctx); err != nil {
		return fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
	}
	found := false
	n.State.Read(func(s *fsm.State) {
		var j *fsm.Job
		if j, found = s.Job(id); found {
			f(s, j)
		}
	})
	if !found {
		return fmt.Errorf("job %q: %w", id, cluster.ErrNotFound)
	}
	return nil
}

// Manifest implements cluster.ArchiveServer.
func (n *Node) Manifest(r *wire.ManifestRequest, stream grpc.ServerStreamingServer[wire.ManifestReply]) error {
	var m Manifest
	if err := n.job(stream.Context(), r.Job, func(s *fsm.State, j *fsm.Job) { m = ManifestOf(s, j) }); err != nil {
		return err
	}
	return m.send(stream.Send)
}

// Best implements cluster.ArchiveServer.
func (n *Node) Best(ctx context.Context, r *wire.BestRequest) (out *wire.BestReply, err error) {
	err = n.job(ctx, r.Job, func(s *fsm.State, j *fsm.Job) { out = BestOf(s, j) })
	return out, err
}

// BestOf returns the best objects of a job of a state.
func BestOf(s *fsm.State, j *fsm.Job) *wire.BestReply {
	out := &wire.BestReply{Generation: j.Generation, Version: j.Version, Spec: j.Spec}
	for _, o := range s.Best(j.ID) {
		out.Objects = append(out.Objects, wire.ObjectInfo{Text: o.Text, LogReward: o.LogReward, Version: o.Version})
	}
	return out
}
