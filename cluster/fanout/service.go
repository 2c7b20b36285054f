package fanout

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Offer is what a node has of a job at one moment.
type Offer struct {
	Snapshot *Snapshot // newest; nil while there is none
	Route    []string  // from the replica to this node, which is the last
	// Changed is closed when any of this is out of date.
	Changed <-chan struct{}
	// File, when not nil, names the file of the cache folder that holds Snapshot.
	File func() (string, error)
}

// Source knows what to offer of a job. It answers with cluster.ErrNotFound,
// cluster.ErrUnavailable, or an error of its own where it offers nothing.
type Source interface {
	Offer(ctx context.Context, job string) (Offer, error)
}

// Send streams to a follower what the source offers, newest only: a follower
// that is slow skips versions and none goes back. It returns nil once the job is
// over or the follower has gone.
func Send(source Source, sent *Egress, req *wire.FollowRequest, stream grpc.ServerStreamingServer[wire.FollowReply]) error {
	f := &follower{req: req, stream: stream, sent: sent, after: req.After, first: req.Any, have: req.Have}
	for {
		offer, err := source.Offer(stream.Context(), req.Job)
		if err != nil {
			return err
		}
		over, err := f.update(offer)
		if err != nil || over {
			return err
		}
		select {
		case <-offer.Changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// follower is one stream's state.
type follower struct {
	req    *wire.FollowRequest
	stream grpc.ServerStreamingServer[wire.FollowReply]
	sent   *Egress

	hello bool     // it was sent something
	route []string // as it was told last
	after wire.Position
	first bool   // any position will do
	have  []byte // hash of the bytes it holds
}

// update sends what the follower does not know yet, and says whether that was
// the end.
func (f *follower) update(o Offer) (over bool, err error) {
	reply := &wire.FollowReply{}
	if !slices.Equal(f.route, o.Route) {
		// Nodes that see the membership differently may choose each other. The
		// route shows that at once.
		if f.req.Group != "" && slices.Contains(o.Route, f.req.Group) {
			return false, fmt.Errorf("%w: this node has the parameters from the follower itself", cluster.ErrUnavailable)
		}
		reply.Route, f.route = o.Route, o.Route
	}
	s := o.Snapshot
	if s == nil || !f.first && !f.after.Before(s.Position()) && !(s.Head.Final && s.Position() == f.after) {
		if f.hello && reply.Route == nil {
			return false, nil
		}
		f.hello = true
		return false, f.stream.Send(reply)
	}
	f.hello = true
	head := s.Head
	rest := s.Data
	switch {
	case bytes.Equal(f.have, head.Hash):
		head.Same, rest = true, nil
	case o.File != nil:
		if head.File, err = o.File(); err != nil {
			return false, fmt.Errorf("%w: no file to share: %w", cluster.ErrUnavailable, err)
		}
		rest = nil
	}
	reply.Head = &head
	for {
		n := min(len(rest), wire.MaxPart)
		reply.Part, rest = rest[:n], rest[n:]
		if err := f.stream.Send(reply); err != nil {
			return false, err
		}
		f.sent.add(f.req.Kind, reply.Head != nil, n)
		if len(rest) == 0 {
			break
		}
		reply = &wire.FollowReply{}
	}
	f.after, f.first, f.have = s.Position(), false, head.Hash
	return head.Final, nil
}
