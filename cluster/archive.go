package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// ArchiveServer is what a node that can hold archive segments offers. It is a
// service of its own, because nodes that only train hold them too.
type ArchiveServer interface {
	// Admit says, before the bytes of a segment come, whether they may. Release is
	// called when they have been dealt with.
	Admit(*wire.SegmentName) (release func(), err error)
	// Put makes an admitted segment durable on this node. It has arrived whole, and its
	// hash is the one that was promised.
	Put(ctx context.Context, n *wire.SegmentName, data []byte) error
	// Get returns a segment whose hash is right.
	Get(ctx context.Context, r *wire.GetSegmentRequest) ([]byte, error)
	// Holds says which segments are here.
	Holds(context.Context, *wire.HoldsRequest) (*wire.HoldsReply, error)
	// Manifest streams the segments that a job lists.
	Manifest(*wire.ManifestRequest, grpc.ServerStreamingServer[wire.ManifestReply]) error
	// Best returns the best objects of a job.
	Best(context.Context, *wire.BestRequest) (*wire.BestReply, error)
}

// RegisterArchive offers impl on a server of NewServer.
func RegisterArchive(s grpc.ServiceRegistrar, impl ArchiveServer) {
	s.RegisterService(&archiveDesc, impl)
}

const (
	methodPut      = "Put"
	methodGet      = "Get"
	methodHolds    = "Holds"
	methodManifest = "Manifest"
	methodBest     = "Best"
)

func archiveMethod(name string) string { return "/" + wire.ArchiveService + "/" + name }

// archiveDesc is like serviceDesc.
var archiveDesc = grpc.ServiceDesc{
	ServiceName: wire.ArchiveService,
	HandlerType: (*ArchiveServer)(nil),
	Methods: []grpc.MethodDesc{
		unaryOf(archiveMethod, methodHolds, ArchiveServer.Holds),
		unaryOf(archiveMethod, methodBest, ArchiveServer.Best),
	},
	Streams: []grpc.StreamDesc{
		{StreamName: methodPut, ClientStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
			return receiveSegment(srv.(ArchiveServer), stream)
		}},
		{StreamName: methodGet, ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
			return sendSegment(srv.(ArchiveServer), stream)
		}},
		{StreamName: methodManifest, ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
			req := new(wire.ManifestRequest)
			if err := stream.RecvMsg(req); err != nil {
				return err
			}
			return srv.(ArchiveServer).Manifest(req, &grpc.GenericServerStream[wire.ManifestRequest, wire.ManifestReply]{ServerStream: stream})
		}},
	},
}

// receiveSegment collects the parts of a segment. Memory grows with what has
// arrived, not with what was promised.
func receiveSegment(impl ArchiveServer, stream grpc.ServerStream) error {
	var name *wire.SegmentName
	var data []byte
	for {
		msg := new(wire.PutSegmentRequest)
		err := stream.RecvMsg(msg)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: the stream of a segment ended after %d bytes", wire.ErrFrame, len(data))
		}
		if err != nil {
			return err
		}
		switch {
		case name == nil && msg.Segment == nil:
			return fmt.Errorf("%w: the first message of a segment names it", ErrInvalid)
		case name != nil && msg.Segment != nil:
			return fmt.Errorf("%w: two segments on one stream", ErrInvalid)
		case name == nil:
			if name = msg.Segment; name.Check() != nil {
				return name.Check()
			}
			release, err := impl.Admit(name)
			if err != nil {
				return err
			}
			defer release()
			data = make([]byte, 0, min(name.Size, wire.MaxSegmentPart))
		}
		if err := checkPart(name, len(data), len(msg.Part)); err != nil {
			return err
		}
		if data = append(data, msg.Part...); int64(len(data)) == name.Size {
			break
		}
	}
	if err := wire.CheckSegment(name, data); err != nil {
		return err
	}
	if err := impl.Put(stream.Context(), name, data); err != nil {
		return err
	}
	return stream.SendMsg(&wire.PutSegmentReply{})
}

// checkPart refuses a part that is empty, too large, or beyond the segment's end.
func checkPart(n *wire.SegmentName, have, part int) error {
	if part < 1 || part > wire.MaxSegmentPart || int64(have+part) > n.Size {
		return fmt.Errorf("%w: a part of %d bytes after %d of %d", wire.ErrFrame, part, have, n.Size)
	}
	return nil
}

func sendSegment(impl ArchiveServer, stream grpc.ServerStream) error {
	req := new(wire.GetSegmentRequest)
	if err := stream.RecvMsg(req); err != nil {
		return err
	}
	if err := req.Segment.Check(); err != nil {
		return err
	}
	data, err := impl.Get(stream.Context(), req)
	if err != nil {
		return err
	}
	for len(data) > 0 {
		n := min(len(data), wire.MaxSegmentPart)
		if err := stream.SendMsg(&wire.GetSegmentReply{Part: data[:n]}); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// PutSegment gives a node a segment and returns once it is durable there.
func (c *Client) PutSegment(ctx context.Context, clusterID string, n *wire.SegmentName, data []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.conn.NewStream(ctx, &grpc.StreamDesc{StreamName: methodPut, ClientStreams: true}, archiveMethod(methodPut))
	if err != nil {
		return err
	}
	msg := &wire.PutSegmentRequest{ClusterID: clusterID, Segment: n}
	for len(data) > 0 {
		size := min(len(data), wire.MaxSegmentPart)
		msg.Part, data = data[:size], data[size:]
		if err := s.SendMsg(msg); err != nil {
			if errors.Is(err, io.EOF) { // the node has answered already: the answer says why
				break
			}
			return err
		}
		msg = &wire.PutSegmentRequest{}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	return s.RecvMsg(new(wire.PutSegmentReply))
}

// GetSegment returns a segment that a node holds, its hash compared.
func (c *Client) GetSegment(ctx context.Context, r *wire.GetSegmentRequest) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.listen(ctx, archiveMethod(methodGet), r)
	if err != nil {
		return nil, err
	}
	data := make([]byte, 0, min(r.Segment.Size, wire.MaxSegmentPart))
	for int64(len(data)) < r.Segment.Size {
		msg := new(wire.GetSegmentReply)
		if err := s.RecvMsg(msg); err != nil {
			if errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("%w: segment %s ends after %d of %d bytes", wire.ErrFrame, r.Segment.ID, len(data), r.Segment.Size)
			}
			return nil, err
		}
		if err := checkPart(&r.Segment, len(data), len(msg.Part)); err != nil {
			return nil, err
		}
		data = append(data, msg.Part...)
	}
	return data, wire.CheckSegment(&r.Segment, data)
}

// Holds asks a node which segments it holds.
func (c *Client) Holds(ctx context.Context, r *wire.HoldsRequest) (*wire.HoldsReply, error) {
	reply, err := invokeAs[wire.HoldsReply](ctx, c, archiveMethod(methodHolds), r)
	if err == nil && len(reply.Held) != len(r.Segments) {
		err = fmt.Errorf("%w: %d answers about %d segments", wire.ErrFrame, len(reply.Held), len(r.Segments))
	}
	return reply, err
}

// Manifest calls f with every part of a job's manifest.
func (c *Client) Manifest(ctx context.Context, r *wire.ManifestRequest, f func(*wire.ManifestReply) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.listen(ctx, archiveMethod(methodManifest), r)
	if err != nil {
		return err
	}
	for {
		msg := new(wire.ManifestReply)
		if err := s.RecvMsg(msg); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := msg.Check(); err != nil {
			return err
		}
		if err := f(msg); err != nil {
			return err
		}
	}
}

// Best asks any server for the best objects of a job.
func (c *Client) Best(ctx context.Context, r *wire.BestRequest) (*wire.BestReply, error) {
	return invokeAs[wire.BestReply](ctx, c, archiveMethod(methodBest), r)
}

// listen opens a stream of answers to one request.
func (c *Client) listen(ctx context.Context, method string, req any) (grpc.ClientStream, error) {
	s, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return nil, err
	}
	if err := s.SendMsg(req); err != nil {
		return nil, err
	}
	return s, s.CloseSend()
}
