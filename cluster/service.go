package cluster

import (
	"context"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// MeshServer is the service that a node offers to the mesh. Handlers return
// plain errors; ToStatus says which of them the client can tell apart. By the
// time a handler runs, the server of NewServer has checked the request's
// cluster ID; Deliver's first Recv checks the Hello.
type MeshServer interface {
	Submit(context.Context, *wire.SubmitRequest) (*wire.SubmitReply, error)
	Control(context.Context, *wire.ControlRequest) (*wire.ControlReply, error)
	Status(context.Context, *wire.StatusRequest) (*wire.StatusReply, error)
	OpenSession(context.Context, *wire.OpenSessionRequest) (*wire.OpenSessionReply, error)
	State(context.Context, *wire.StateRequest) (*wire.StateReply, error)
	Join(context.Context, *wire.JoinRequest) (*wire.JoinReply, error)

	StateParts(*wire.StateRequest, grpc.ServerStreamingServer[wire.StatePart]) error
	Backup(*wire.BackupRequest, grpc.ServerStreamingServer[wire.BackupChunk]) error
	Events(*wire.EventsRequest, grpc.ServerStreamingServer[wire.EventsReply]) error
	Assign(*wire.AssignRequest, grpc.ServerStreamingServer[wire.Assignment]) error
	Subscribe(*wire.SubscribeRequest, grpc.ServerStreamingServer[wire.Snapshot]) error
	Watch(*wire.WatchRequest, grpc.ServerStreamingServer[wire.WatchReply]) error
	Deliver(grpc.BidiStreamingServer[wire.Uplink, wire.Downlink]) error
}

// RegisterMesh offers impl on s.
func RegisterMesh(s grpc.ServiceRegistrar, impl MeshServer) { s.RegisterService(&serviceDesc, impl) }

const (
	methodSubmit      = "Submit"
	methodControl     = "Control"
	methodStatus      = "Status"
	methodOpenSession = "OpenSession"
	methodState       = "State"
	methodStateParts  = "StateParts"
	methodJoin        = "Join"
	methodBackup      = "Backup"
	methodEvents      = "Events"
	methodAssign      = "Assign"
	methodSubscribe   = "Subscribe"
	methodWatch       = "Watch"
	methodDeliver     = "Deliver"
)

func fullMethod(name string) string { return "/" + wire.ServiceName + "/" + name }

// serviceDesc is what protoc would generate; messages are msgpack, so there is
// nothing to generate from. It is never written to.
var serviceDesc = grpc.ServiceDesc{
	ServiceName: wire.ServiceName,
	HandlerType: (*MeshServer)(nil),
	Methods: []grpc.MethodDesc{
		unary(methodSubmit, MeshServer.Submit),
		unary(methodControl, MeshServer.Control),
		unary(methodStatus, MeshServer.Status),
		unary(methodOpenSession, MeshServer.OpenSession),
		unary(methodState, MeshServer.State),
		unary(methodJoin, MeshServer.Join),
	},
	Streams: []grpc.StreamDesc{
		serverStream(methodStateParts, MeshServer.StateParts),
		serverStream(methodBackup, MeshServer.Backup),
		serverStream(methodEvents, MeshServer.Events),
		serverStream(methodAssign, MeshServer.Assign),
		serverStream(methodSubscribe, MeshServer.Subscribe),
		serverStream(methodWatch, MeshServer.Watch),
		{
			StreamName: methodDeliver,
			Handler: func(srv any, stream grpc.ServerStream) error {
				return srv.(MeshServer).Deliver(&grpc.GenericServerStream[wire.Uplink, wire.Downlink]{ServerStream: stream})
			},
			ServerStreams: true,
			ClientStreams: true,
		},
	},
}

func unary[Req, Res any](name string, call func(MeshServer, context.Context, *Req) (*Res, error)) grpc.MethodDesc {
	return unaryOf(fullMethod, name, call)
}

// unaryOf describes a method of any service.
func unaryOf[Service, Req, Res any](full func(string) string, name string, call func(Service, context.Context, *Req) (*Res, error)) grpc.MethodDesc {
	return grpc.MethodDesc{
		MethodName: name,
		Handler: func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			req := new(Req)
			if err := decode(req); err != nil {
				return nil, err // gRPC has answered already; FromStatus knows its texts
			}
			handle := func(ctx context.Context, req any) (any, error) {
				return call(srv.(Service), ctx, req.(*Req))
			}
			if intercept == nil {
				return handle(ctx, req)
			}
			return intercept(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: full(name)}, handle)
		},
	}
}

func serverStream[Req, Res any](name string, call func(MeshServer, *Req, grpc.ServerStreamingServer[Res]) error) grpc.StreamDesc {
	return grpc.StreamDesc{
		StreamName: name,
		Handler: func(srv any, stream grpc.ServerStream) error {
			req := new(Req)
			if err := stream.RecvMsg(req); err != nil {
				return err
			}
			return call(srv.(MeshServer), req, &grpc.GenericServerStream[Req, Res]{ServerStream: stream})
		},
		ServerStreams: true,
	}
}
