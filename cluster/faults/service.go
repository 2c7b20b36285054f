package faults

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

const methodSet = "Set"

// Register offers control of n on s. Whoever reaches it can cut the node off:
// it belongs on a listener of its own, for tests.
func Register(s grpc.ServiceRegistrar, n *Network) { s.RegisterService(&serviceDesc, n) }

// control is what the service calls.
type control interface {
	control(*wire.FaultsRequest) (*wire.FaultsReply, error)
}

func (n *Network) control(r *wire.FaultsRequest) (*wire.FaultsReply, error) {
	if r.Node != n.self {
		return nil, fmt.Errorf("%w: the request is meant for node %s, this is %s", cluster.ErrInvalid, r.Node, n.self)
	}
	if len(r.Reset) > wire.MaxLinkFaults {
		return nil, fmt.Errorf("%w: %d links to reset, the cap is %d", cluster.ErrInvalid, len(r.Reset), wire.MaxLinkFaults)
	}
	if err := n.Set(r.Faults, r.Seed); err != nil {
		return nil, err
	}
	reply := &wire.FaultsReply{Struck: n.table.struck.Swap(0), Broken: n.Reset(r.Reset)}
	reply.Connections, reply.Held = n.Held()
	return reply, nil
}

var serviceDesc = grpc.ServiceDesc{
	ServiceName: wire.FaultsServiceName,
	HandlerType: (*control)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: methodSet,
		Handler: func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			req := new(wire.FaultsRequest)
			if err := decode(req); err != nil {
				return nil, err
			}
			handle := func(_ context.Context, req any) (any, error) {
				return srv.(control).control(req.(*wire.FaultsRequest))
			}
			return intercept(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: fullMethod}, handle)
		},
	}},
}

const fullMethod = "/" + wire.FaultsServiceName + "/" + methodSet

// Control replaces the faults of the node that serves at c's address.
func Control(ctx context.Context, c *cluster.Client, r *wire.FaultsRequest) (*wire.FaultsReply, error) {
	reply := new(wire.FaultsReply)
	if err := c.Invoke(ctx, fullMethod, r, reply); err != nil {
		return nil, err
	}
	return reply, nil
}

// Serve offers control of n at addr until ctx ends, and says where.
func Serve(ctx context.Context, n *Network, security cluster.Security, addr string) (at string, done <-chan error, err error) {
	l, err := security.Listen(ctx, addr)
	if err != nil {
		return "", nil, err
	}
	s := cluster.NewServer(cluster.ServerOptions{ClusterID: func() string { return "" }, Security: security})
	Register(s, n)
	out := make(chan error, 1)
	stopped := context.AfterFunc(ctx, s.Stop)
	go func() { // the caller waits for done
		defer stopped()
		out <- s.Serve(l)
	}()
	return l.Addr().String(), out, nil
}
