package cluster

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// DialOptions configures Dial.
type DialOptions struct {
	Security Security
	// Dialer opens the connection to host:port; nil for plain TCP. Fault
	// injection and tests put themselves here.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
}

// Client calls the mesh service of one node. Its errors are those of FromStatus,
// on streams too. It is safe for concurrent use; a stream is for one sender and
// one receiver.
type Client struct {
	addr string
	conn *grpc.ClientConn
}

// Dial returns a client of the node at addr (host:port). It does not wait for a
// connection: a node that cannot be reached shows as ErrUnavailable in the calls,
// and later calls try again.
func Dial(addr string, o DialOptions) (*Client, error) {
	if err := o.Security.CheckAddr(addr); err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(o.Security.credentials()),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(wire.Codec{}),
			grpc.MaxCallRecvMsgSize(wire.MaxFrame),
			grpc.MaxCallSendMsgSize(wire.MaxFrame),
		),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPingEvery, Timeout: pingTimeout, PermitWithoutStream: true}),
		// gRPC's own backoff grows to two minutes; a mesh heals faster than that.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithNoProxy(),              // peers are named by address
		grpc.WithDisableServiceConfig(), // and bring no policy of their own
		grpc.WithIdleTimeout(0),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return FromStatus(invoke(ctx, method, req, reply, cc, opts...))
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := open(ctx, desc, cc, method, opts...)
			if err != nil {
				return nil, FromStatus(err)
			}
			return &translatedStream{s}, nil
		}),
	}
	if o.Dialer != nil {
		opts = append(opts, grpc.WithContextDialer(o.Dialer))
	}
	// passthrough: the address is final, there is nothing to resolve.
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("cluster: dial %s: %w", addr, err)
	}
	return &Client{addr: addr, conn: conn}, nil
}

// translatedStream gives errors of a stream the form of FromStatus.
type translatedStream struct{ grpc.ClientStream }

func (s *translatedStream) RecvMsg(m any) error { return FromStatus(s.ClientStream.RecvMsg(m)) }
func (s *translatedStream) SendMsg(m any) error { return FromStatus(s.ClientStream.SendMsg(m)) }
func (s *translatedStream) CloseSend() error    { return FromStatus(s.ClientStream.CloseSend()) }

// Addr returns the address given to Dial.
func (c *Client) Addr() string { return c.addr }

// Close ends every call and stream of the client.
func (c *Client) Close() error {
	if err := c.conn.Close(); err != nil {
		return fmt.Errorf("cluster: close the connection to %s: %w", c.addr, err)
	}
	return nil
}

// Invoke calls a method, "/service/method", that another service of the same
// node offers.
func (c *Client) Invoke(ctx context.Context, method string, req, reply any) error {
	return c.conn.Invoke(ctx, method, req, reply)
}

// Submit creates a job. Repeating it with an equal spec is harmless.
func (c *Client) Submit(ctx context.Context, r *wire.SubmitRequest) (*wire.SubmitReply, error) {
	return invoke[wire.SubmitReply](ctx, c, methodSubmit, r)
}

// Control changes a job's status.
func (c *Client) Control(ctx context.Context, r *wire.ControlRequest) (*wire.ControlReply, error) {
	return invoke[wire.ControlReply](ctx, c, methodControl, r)
}

// Status reports what the node knows of the cluster; any node answers.
func (c *Client) Status(ctx context.Context, r *wire.StatusRequest) (*wire.StatusReply, error) {
	return invoke[wire.StatusReply](ctx, c, methodStatus, r)
}

// OpenSession opens a worker session through the log.
func (c *Client) OpenSession(ctx context.Context, r *wire.OpenSessionRequest) (*wire.OpenSessionReply, error) {
	return invoke[wire.OpenSessionReply](ctx, c, methodOpenSession, r)
}

// Join asks to be taken into the cluster, and where its members gossip.
func (c *Client) Join(ctx context.Context, r *wire.JoinRequest) (*wire.JoinReply, error) {
	return invoke[wire.JoinReply](ctx, c, methodJoin, r)
}

// Backup streams a snapshot of the whole replicated state.
func (c *Client) Backup(ctx context.Context, r *wire.BackupRequest) (grpc.ServerStreamingClient[wire.BackupChunk], error) {
	return listen[wire.BackupRequest, wire.BackupChunk](ctx, c, methodBackup, r)
}

// Events streams the cluster's events after a log index.
func (c *Client) Events(ctx context.Context, r *wire.EventsRequest) (grpc.ServerStreamingClient[wire.EventsReply], error) {
	return listen[wire.EventsRequest, wire.EventsReply](ctx, c, methodEvents, r)
}

// Assign streams the assignments of a slot. Like every stream it lasts until
// ctx ends, an error, or io.EOF from Recv.
func (c *Client) Assign(ctx context.Context, r *wire.AssignRequest) (grpc.ServerStreamingClient[wire.Assignment], error) {
	return listen[wire.AssignRequest, wire.Assignment](ctx, c, methodAssign, r)
}

// Subscribe streams the published snapshots of a job after a position.
func (c *Client) Subscribe(ctx context.Context, r *wire.SubscribeRequest) (grpc.ServerStreamingClient[wire.Snapshot], error) {
	return listen[wire.SubscribeRequest, wire.Snapshot](ctx, c, methodSubscribe, r)
}

// Watch streams the metric rows of a job after a version.
func (c *Client) Watch(ctx context.Context, r *wire.WatchRequest) (grpc.ServerStreamingClient[wire.WatchReply], error) {
	return listen[wire.WatchRequest, wire.WatchReply](ctx, c, methodWatch, r)
}

// Deliver opens a trajectory stream; the first message sent must be a Hello.
func (c *Client) Deliver(ctx context.Context) (grpc.BidiStreamingClient[wire.Uplink, wire.Downlink], error) {
	desc := &grpc.StreamDesc{StreamName: methodDeliver, ServerStreams: true, ClientStreams: true}
	s, err := c.conn.NewStream(ctx, desc, fullMethod(methodDeliver))
	if err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[wire.Uplink, wire.Downlink]{ClientStream: s}, nil
}

func invoke[Res any](ctx context.Context, c *Client, method string, req any) (*Res, error) {
	return invokeAs[Res](ctx, c, fullMethod(method), req)
}

// invokeAs is invoke by a full method name.
func invokeAs[Res any](ctx context.Context, c *Client, method string, req any) (*Res, error) {
	reply := new(Res)
	if err := c.conn.Invoke(ctx, method, req, reply); err != nil {
		return nil, err
	}
	return reply, nil
}

func listen[Req, Res any](ctx context.Context, c *Client, method string, req *Req) (grpc.ServerStreamingClient[Res], error) {
	desc := &grpc.StreamDesc{StreamName: method, ServerStreams: true}
	s, err := c.conn.NewStream(ctx, desc, fullMethod(method))
	if err != nil {
		return nil, err
	}
	if err := s.SendMsg(req); err != nil {
		return nil, err
	}
	if err := s.CloseSend(); err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[Req, Res]{ClientStream: s}, nil
}
