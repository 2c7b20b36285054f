package cluster

import (
	"context"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// MembershipServer is what a replica offers to the other members of its log and
// to the operator. It is a service of its own beside MeshServer.
type MembershipServer interface {
	// ReadIndex is the leader's part of a linearizable read.
	ReadIndex(context.Context, *wire.ReadIndexRequest) (*wire.ReadIndexReply, error)
	// Chain returns the replica's hash chain at recent indices.
	Chain(context.Context, *wire.ChainRequest) (*wire.ChainReply, error)
	// Members lists who receives the log.
	Members(context.Context, *wire.MembersRequest) (*wire.MembersReply, error)
	// Remove takes a node out of the log for good; the leader does.
	Remove(context.Context, *wire.RemoveRequest) (*wire.RemoveReply, error)
}

// RegisterMembership offers impl on a server of NewServer.
func RegisterMembership(s grpc.ServiceRegistrar, impl MembershipServer) {
	s.RegisterService(&membershipDesc, impl)
}

const (
	methodReadIndex = "ReadIndex"
	methodChain     = "Chain"
	methodMembers   = "Members"
	methodRemove    = "Remove"
)

func membershipMethod(name string) string { return "/" + wire.MembershipService + "/" + name }

// membershipDesc is like serviceDesc.
var membershipDesc = grpc.ServiceDesc{
	ServiceName: wire.MembershipService,
	HandlerType: (*MembershipServer)(nil),
	Methods: []grpc.MethodDesc{
		unaryOf(membershipMethod, methodReadIndex, MembershipServer.ReadIndex),
		unaryOf(membershipMethod, methodChain, MembershipServer.Chain),
		unaryOf(membershipMethod, methodMembers, MembershipServer.Members),
		unaryOf(membershipMethod, methodRemove, MembershipServer.Remove),
	},
}

// ReadIndex asks the leader for an index that a linearizable read may wait for.
func (c *Client) ReadIndex(ctx context.Context, r *wire.ReadIndexRequest) (*wire.ReadIndexReply, error) {
	return invokeAs[wire.ReadIndexReply](ctx, c, membershipMethod(methodReadIndex), r)
}

// Chain asks a replica for its hash chain at recent indices.
func (c *Client) Chain(ctx context.Context, r *wire.ChainRequest) (*wire.ChainReply, error) {
	return invokeAs[wire.ChainReply](ctx, c, membershipMethod(methodChain), r)
}

// Members asks a server who receives the log; only the leader knows how far each
// member's log reaches.
func (c *Client) Members(ctx context.Context, r *wire.MembersRequest) (*wire.MembersReply, error) {
	return invokeAs[wire.MembersReply](ctx, c, membershipMethod(methodMembers), r)
}

// Remove takes a node out of the log for good. Repeating it is harmless.
func (c *Client) Remove(ctx context.Context, r *wire.RemoveRequest) (*wire.RemoveReply, error) {
	return invokeAs[wire.RemoveReply](ctx, c, membershipMethod(methodRemove), r)
}
