package cluster_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"testing"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// largeNode has a state that it sends in parts.
type largeNode struct {
	cluster.MeshServer
	parts []*wire.StatePart
}

func (n *largeNode) State(_ context.Context, r *wire.StateRequest) (*wire.StateReply, error) {
	return &wire.StateReply{InParts: r.Parts}, nil
}

func (n *largeNode) StateParts(_ *wire.StateRequest, s grpc.ServerStreamingServer[wire.StatePart]) error {
	for _, p := range n.parts {
		if err := s.Send(p); err != nil {
			return err
		}
	}
	return nil
}

// TestStateInParts puts a state together, and takes nothing from a sender that
// does not keep to it.
func TestStateInParts(t *testing.T) {
	params, private := make([]byte, wire.MaxPart+8), make([]byte, 2*wire.MaxPart)
	for i := range params {
		params[i] = byte(i >> 4)
	}
	for i := range private {
		private[i] = byte(i >> 5)
	}
	a, b := sha256.Sum256(params), sha256.Sum256(private)
	hash := sha256.Sum256(append(a[:], b[:]...))
	head := func(change func(*wire.StateHead)) *wire.StatePart {
		h := &wire.StateHead{Info: wire.JobInfo{ID: "grid", StateHash: hash[:]}, Params: int64(len(params)), Private: int64(len(private)), Sessions: []wire.SessionInfo{{ID: "s"}}}
		change(h)
		return &wire.StatePart{Head: h}
	}
	plain := head(func(*wire.StateHead) {})
	all := append(append([]byte(nil), params...), private...)
	data := func(b []byte) (out []*wire.StatePart) {
		for len(b) > 0 {
			n := min(len(b), wire.MaxPart)
			out = append(out, &wire.StatePart{Data: b[:n]})
			b = b[n:]
		}
		return out
	}
	wrong := append([]byte(nil), all...)
	wrong[len(wrong)-1]++
	for name, c := range map[string]struct {
		parts []*wire.StatePart
		want  error
	}{
		"whole":             {append([]*wire.StatePart{plain}, data(all)...), nil},
		"nothing":           {nil, wire.ErrFrame},
		"no head":           {data(all), wire.ErrFrame},
		"it ends early":     {append([]*wire.StatePart{plain}, data(all[:2*wire.MaxPart])...), wire.ErrFrame},
		"a short part":      {append([]*wire.StatePart{plain}, &wire.StatePart{Data: all[:7]}), wire.ErrFrame},
		"two heads":         {[]*wire.StatePart{plain, plain}, wire.ErrFrame},
		"another byte":      {append([]*wire.StatePart{plain}, data(wrong)...), wire.ErrFrame},
		"a terabyte":        {[]*wire.StatePart{head(func(h *wire.StateHead) { h.Private = 1 << 40 })}, wire.ErrTooLarge},
		"two halves of one": {[]*wire.StatePart{head(func(h *wire.StateHead) { h.Params, h.Private = 200<<20, 200<<20 })}, wire.ErrTooLarge},
		"less than nothing": {[]*wire.StatePart{head(func(h *wire.StateHead) { h.Params = -1 })}, wire.ErrTooLarge},
	} {
		conn, ctx := dial(t, serve(t, &largeNode{parts: c.parts})), within(t)
		reply, err := conn.State(ctx, &wire.StateRequest{ClusterID: clusterA, Job: "grid"})
		if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want == nil && (!bytes.Equal(reply.Params, params) || !bytes.Equal(reply.Private, private) || reply.Info.ID != "grid" || len(reply.Sessions) != 1) {
			t.Errorf("%s: another state", name)
		}
	}
}
