package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/driftmesh/driftmesh/internal/wire"
)

const (
	// pingEvery and pingTimeout bound how long a server holds on to a client
	// that vanished without closing its connection. One second is the least
	// that gRPC allows a server.
	pingEvery   = time.Second
	pingTimeout = time.Second
	// clientPingEvery is the least that gRPC allows a client. A server that is
	// killed resets its connections at once; only a stopped or cut-off one is
	// noticed this late here, and sooner by gossip.
	clientPingEvery = 10 * time.Second

	// handshakeTimeout ends connections that never become HTTP/2.
	handshakeTimeout = 5 * time.Second

	// Flow-control windows for bulk: a snapshot of some megabytes crosses
	// without waiting for the receiver to grant more.
	streamWindow = 4 << 20
	connWindow   = 16 << 20
)

// ServerOptions configures NewServer.
type ServerOptions struct {
	// ClusterID returns the ID that incoming messages must carry, "" while the
	// node belongs to no cluster (then only messages that may lack one pass).
	ClusterID func() string
	Security  Security
	// Log takes a line for calls that are refused, at a bounded pace; nil for none.
	Log *slog.Logger
	// Refused counts every one of them, by method and gRPC code; nil for nobody.
	Refused func(method, code string)
}

// NewServer returns a gRPC server for RegisterMesh: msgpack messages of at most
// wire.MaxFrame, the cluster ID of every message checked, errors of handlers
// translated by ToStatus, and dead clients noticed within seconds.
func NewServer(o ServerOptions) *grpc.Server {
	check := func(msg any) error { return checkCluster(o.ClusterID, msg) }
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return grpc.NewServer(
		grpc.StatsHandler(&refusals{log: log, count: o.Refused, told: map[[2]string]*refused{}}),
		grpc.Creds(o.Security.credentials()),
		grpc.ForceServerCodecV2(wire.Codec{}), // whatever a client claims to send
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxRecvMsgSize(wire.MaxFrame),
		grpc.MaxSendMsgSize(wire.MaxFrame),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: clientPingEvery / 2, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := check(req); err != nil {
				return nil, ToStatus(err)
			}
			reply, err := next(ctx, req)
			return reply, ToStatus(err)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return ToStatus(next(srv, &checkedStream{ServerStream: stream, check: check}))
		}),
	)
}

// checkedStream checks every message that comes in.
type checkedStream struct {
	grpc.ServerStream
	check func(msg any) error
}

func (s *checkedStream) RecvMsg(msg any) error {
	if err := s.ServerStream.RecvMsg(msg); err != nil {
		return FromStatus(err) // io.EOF stays io.EOF
	}
	return s.check(msg)
}

// checkCluster compares the cluster that a message is meant for with our own.
func checkCluster(own func() string, msg any) error {
	tagged, ok := msg.(wire.Tagged)
	if !ok {
		return fmt.Errorf("%w: %T carries no cluster ID", ErrInvalid, msg)
	}
	got, required := tagged.Cluster()
	if got == "" && !required {
		return nil
	}
	want := own()
	switch {
	case got == want && want != "":
		return nil
	case got == "":
		return fmt.Errorf("%w: the message names no cluster, this node belongs to %s", ErrForeignCluster, orNone(want))
	}
	return fmt.Errorf("%w: the message is meant for %s, this node belongs to %s", ErrForeignCluster, got, orNone(want))
}

func orNone(id string) string {
	if id == "" {
		return "none"
	}
	return id
}
