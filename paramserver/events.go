package paramserver

import (
	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// maxEventsReply bounds the events of one message; those of one log index stay
// together, so that a follower can go on after it.
const maxEventsReply = 256

// Events streams the cluster's events after a log index, from this replica's
// own state. A replica that is behind what the follower has seen tells nothing
// until it has caught up.
func (s *Server) Events(req *wire.EventsRequest, stream grpc.ServerStreamingServer[wire.EventsReply]) error {
	after := req.After
	for first := true; ; first = false {
		changed := s.Replica.Changed()
		var events []fsm.Event
		var at uint64
		s.Replica.Read(func(st *fsm.State) { events, at = st.Events(after), st.Index() })
		for _, reply := range eventReplies(events, req.Job) {
			if err := stream.Send(reply); err != nil {
				return err
			}
			after = reply.Index
		}
		// Even without news: the answer says how far this replica knows.
		if (first || !req.Follow) && at > after {
			if err := stream.Send(&wire.EventsReply{Index: at}); err != nil {
				return err
			}
			after = at
		}
		if !req.Follow {
			return nil
		}
		select {
		case <-changed:
		case <-s.Replica.Done():
			return s.Replica.Err()
		case <-stream.Context().Done():
			return nil
		}
	}
}

// eventReplies packs events into messages, leaving out those of other jobs
// than the one asked for ("" for all).
func eventReplies(events []fsm.Event, job string) (out []*wire.EventsReply) {
	var reply *wire.EventsReply
	for _, e := range events {
		if reply == nil || len(reply.Events) >= maxEventsReply && e.Index != reply.Index {
			reply = &wire.EventsReply{}
			out = append(out, reply)
		}
		reply.Index = e.Index
		if job != "" && e.Job != job {
			continue
		}
		reply.Events = append(reply.Events, wire.EventInfo{
			Index: e.Index, Stamp: e.Stamp, Kind: e.Kind, Job: e.Job, Node: e.Node, Epoch: e.Epoch, Version: e.Version, Detail: e.Detail,
		})
	}
	return out
}
