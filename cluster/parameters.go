package cluster

import (
	"context"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// ParametersServer hands published parameters on. It is a service of its own,
// because worker nodes offer it too.
type ParametersServer interface {
	// Follow streams the versions of a job after a position, newest only.
	Follow(*wire.FollowRequest, grpc.ServerStreamingServer[wire.FollowReply]) error
}

// RegisterParameters offers impl on a server of NewServer.
func RegisterParameters(s grpc.ServiceRegistrar, impl ParametersServer) {
	s.RegisterService(&parametersDesc, impl)
}

const methodFollow = "Follow"

// parametersDesc is like serviceDesc.
var parametersDesc = grpc.ServiceDesc{
	ServiceName: wire.ParametersService,
	HandlerType: (*ParametersServer)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName: methodFollow,
		Handler: func(srv any, stream grpc.ServerStream) error {
			req := new(wire.FollowRequest)
			if err := stream.RecvMsg(req); err != nil {
				return err
			}
			if err := req.Check(); err != nil {
				return err
			}
			return srv.(ParametersServer).Follow(req, &grpc.GenericServerStream[wire.FollowRequest, wire.FollowReply]{ServerStream: stream})
		},
		ServerStreams: true,
	}},
}

// Follow streams the versions of a job that the node has, after a position.
// Parts of a message's promise are not checked here; see package fanout.
func (c *Client) Follow(ctx context.Context, r *wire.FollowRequest) (grpc.ServerStreamingClient[wire.FollowReply], error) {
	desc := &grpc.StreamDesc{StreamName: methodFollow, ServerStreams: true}
	s, err := c.conn.NewStream(ctx, desc, "/"+wire.ParametersService+"/"+methodFollow)
	if err != nil {
		return nil, err
	}
	if err := s.SendMsg(r); err != nil {
		return nil, err
	}
	if err := s.CloseSend(); err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[wire.FollowRequest, wire.FollowReply]{ClientStream: s}, nil
}
