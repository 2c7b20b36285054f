package cluster

import (
	"context"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// LearningServer is what a leader offers to the nodes that train.
type LearningServer interface {
	// Learn is the stream of one such node, for as long as this node leads.
	Learn(grpc.BidiStreamingServer[wire.LearnerUp, wire.LearnerDown]) error
}

// RegisterLearning offers impl on a server of NewServer.
func RegisterLearning(s grpc.ServiceRegistrar, impl LearningServer) {
	s.RegisterService(&learningDesc, impl)
}

const methodLearn = "Learn"

// learningDesc is like serviceDesc.
var learningDesc = grpc.ServiceDesc{
	ServiceName: wire.LearningService,
	HandlerType: (*LearningServer)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName: methodLearn,
		Handler: func(srv any, stream grpc.ServerStream) error {
			return srv.(LearningServer).Learn(&grpc.GenericServerStream[wire.LearnerUp, wire.LearnerDown]{ServerStream: stream})
		},
		ServerStreams: true,
		ClientStreams: true,
	}},
}

// Learn opens the stream of a node that trains; the first message sent must be a
// Hello.
func (c *Client) Learn(ctx context.Context) (grpc.BidiStreamingClient[wire.LearnerUp, wire.LearnerDown], error) {
	desc := &grpc.StreamDesc{StreamName: methodLearn, ServerStreams: true, ClientStreams: true}
	s, err := c.conn.NewStream(ctx, desc, "/"+wire.LearningService+"/"+methodLearn)
	if err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[wire.LearnerUp, wire.LearnerDown]{ClientStream: s}, nil
}
