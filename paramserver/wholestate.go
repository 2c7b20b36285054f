package paramserver

import (
	"context"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// State returns a job's whole committed state; only the leader does. To whoever
// takes parts it names a large one only.
func (s *Server) State(ctx context.Context, req *wire.StateRequest) (*wire.StateReply, error) {
	reply, err := s.whole(ctx, req)
	if err == nil && req.Parts && len(reply.Params)+len(reply.Private) > wire.MaxWholeState {
		return &wire.StateReply{Info: reply.Info, InParts: true}, nil
	}
	return reply, err
}

// StateParts is State for a state of any size, which it need not hold twice: the
// parts are slices of the replica's own immutable bytes.
func (s *Server) StateParts(req *wire.StateRequest, stream grpc.ServerStreamingServer[wire.StatePart]) error {
	reply, err := s.whole(stream.Context(), req)
	if err != nil {
		return err
	}
	head := &wire.StateHead{Info: reply.Info, Params: int64(len(reply.Params)), Private: int64(len(reply.Private)), Sessions: reply.Sessions}
	if err := stream.Send(&wire.StatePart{Head: head}); err != nil {
		return err
	}
	first, rest := reply.Params, reply.Private
	for len(first)+len(rest) > 0 {
		part := first[:min(len(first), wire.MaxPart)]
		first = first[len(part):]
		if len(part) < wire.MaxPart && len(rest) > 0 { // the part in which Params end
			n := min(wire.MaxPart-len(part), len(rest))
			part = append(part[:len(part):len(part)], rest[:n]...)
			rest = rest[n:]
		}
		if err := stream.Send(&wire.StatePart{Data: part}); err != nil {
			return err
		}
	}
	return nil
}

// whole reads a job's committed state after all that was answered before.
func (s *Server) whole(ctx context.Context, req *wire.StateRequest) (*wire.StateReply, error) {
	if err := s.linearize(ctx); err != nil {
		return nil, err
	}
	j, err := s.mustJob(ctx, req.Job)
	if err != nil {
		return nil, err
	}
	reply := &wire.StateReply{Info: info(j), Params: j.Params, Private: j.Private}
	if req.Sessions {
		// Both in one view: sessions move with the state.
		s.Replica.Read(func(st *fsm.State) {
			if now, ok := st.Job(req.Job); ok {
				reply = &wire.StateReply{Info: info(now), Params: now.Params, Private: now.Private}
			}
			for _, x := range st.Sessions(req.Job) {
				reply.Sessions = append(reply.Sessions, wire.SessionInfo{
					ID: x.ID, Worker: x.Worker, Slot: x.Slot, Mark: x.Mark,
					Admitted: x.Admitted, Stale: x.Stale, Refused: x.Refused, Expired: x.Expired,
				})
			}
		})
	}
	return reply, nil
}
