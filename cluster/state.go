package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/internal/piecewise"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// State returns a job's whole committed state, however large it is; the bytes
// of a large one are checked against its hash.
func (c *Client) State(ctx context.Context, r *wire.StateRequest) (*wire.StateReply, error) {
	req := *r
	req.Parts = true
	reply, err := invoke[wire.StateReply](ctx, c, methodState, &req)
	if err != nil || !reply.InParts {
		return reply, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := listen[wire.StateRequest, wire.StatePart](ctx, c, methodStateParts, &req)
	if err != nil {
		return nil, err
	}
	return receiveState(stream)
}

// receiveState puts a state together. Memory grows with what has arrived.
func receiveState(stream grpc.ServerStreamingClient[wire.StatePart]) (*wire.StateReply, error) {
	first, err := stream.Recv()
	if err != nil {
		return nil, brokenOff(err)
	}
	h := first.Head
	switch {
	case h == nil || len(first.Data) > 0:
		return nil, fmt.Errorf("%w: a state in parts begins with its head", wire.ErrFrame)
	case h.Params < 0 || h.Private < 0 || h.Params > wire.MaxParameters || h.Private > wire.MaxParameters-h.Params:
		return nil, fmt.Errorf("%w: a state of %d and %d bytes, the cap is %d", wire.ErrTooLarge, h.Params, h.Private, wire.MaxParameters)
	}
	var data []byte
	for want := h.Params + h.Private; int64(len(data)) < want; {
		part, err := stream.Recv()
		if err != nil {
			return nil, brokenOff(err)
		}
		if n := min(want-int64(len(data)), wire.MaxPart); part.Head != nil || int64(len(part.Data)) != n {
			return nil, fmt.Errorf("%w: a part of %d bytes; want %d", wire.ErrFrame, len(part.Data), n)
		}
		data = append(data, part.Data...)
	}
	out := &wire.StateReply{Info: h.Info, Params: data[:h.Params:h.Params], Private: data[h.Params:], Sessions: h.Sessions}
	params, private := piecewise.Sum256(out.Params), piecewise.Sum256(out.Private)
	if sum := sha256.Sum256(append(params[:], private[:]...)); !bytes.Equal(sum[:], h.Info.StateHash) {
		return nil, fmt.Errorf("%w: the state of version %d does not match its hash", wire.ErrFrame, h.Info.Version)
	}
	return out, nil
}

// brokenOff makes the early end of a stream what it is.
func brokenOff(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the state ends too early", wire.ErrFrame)
	}
	return err
}
