package paramserver_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// sized is a job with one hidden layer of the largest width, and so many units
// in the next.
func sized(kind string, momentum float64, second int) *job.Spec {
	spec := smallSpec()
	spec.Policy.Hidden = []int{1 << 16, second}
	spec.Optimiser.Kind, spec.Optimiser.Momentum = kind, momentum
	return spec
}

// TestTheCapOfAState: the size is counted before any memory is taken for it, and
// the refusal shows how.
func TestTheCapOfAState(t *testing.T) {
	for name, c := range map[string]struct {
		spec *job.Spec
		want string // of the refusal; "" for none
	}{
		"adam":                {sized("adam", 0, 300), ""},
		"too much for adam":   {sized("adam", 0, 330), "parameters × 4 bytes × 3 (parameters and two moments of adam) = "},
		"sgd":                 {sized("sgd", 0, 960), ""},
		"too much for sgd":    {sized("sgd", 0, 1000), "parameters × 4 bytes = "},
		"momentum":            {sized("sgd", 0.9, 470), ""},
		"too much momentum":   {sized("sgd", 0.9, 500), "parameters × 4 bytes × 2 (parameters and the momentum of sgd) = "},
		"more than any state": {sized("adam", 0, 1<<16), "parameters × 4 bytes = "},
	} {
		_, size, err := paramserver.Check(c.spec)
		var fault *fielderr.Error
		switch {
		case c.want == "":
			if err != nil || size <= wire.MaxFrame || size > fsm.MaxState {
				t.Errorf("%s: %d bytes, %v", name, size, err)
			}
		case !errors.As(err, &fault) || fault.Path != "policy.hidden" || !strings.Contains(fault.Want, c.want) || !strings.Contains(fault.Want, "a state may have 256 MiB"):
			t.Errorf("%s: %v, want a fault with %q", name, err, c.want)
		}
	}
}

// TestALargeJobNeedsChunks: a cluster that does not have them yet says so.
func TestALargeJobNeedsChunks(t *testing.T) {
	data, err := sized("adam", 0, 100).JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []uint8{1, 2} {
		s, _ := memoryServer(t, level)
		_, err := s.Submit(t.Context(), &wire.SubmitRequest{Spec: data})
		if level >= 2 && err != nil || level < 2 && (err == nil || !strings.Contains(err.Error(), "MiB") || !strings.Contains(err.Error(), "feature level 2")) {
			t.Errorf("at level %d: %v", level, err)
		}
	}
}

// parts collects a stream.
type parts struct {
	grpc.ServerStreamingServer[wire.StatePart]
	t    *testing.T
	got  []*wire.StatePart
	data []byte
}

func (p *parts) Send(m *wire.StatePart) error {
	if m.Head == nil && len(p.data)%wire.MaxPart != 0 {
		p.t.Errorf("a part after a short one")
	}
	p.got, p.data = append(p.got, m), append(p.data, m.Data...)
	return nil
}

// TestAStateIsCutWhereItShould: in parts of full size, across the border of its
// two halves; who does not take parts gets it in one message.
func TestAStateIsCutWhereItShould(t *testing.T) {
	s, rep := memoryServer(t, 2)
	p, q := make([]byte, wire.MaxWholeState-wire.MaxPart/2), make([]byte, wire.MaxPart+3)
	q[0], q[len(q)-1] = 7, 9
	for _, cmd := range []any{
		fsm.CreateJob{Job: "j"}, fsm.Grant{Job: "j", Epoch: 1, Node: "n"}, fsm.Commit{Job: "j", Epoch: 1, Params: p, Private: q},
	} {
		if res, err := rep.Apply(t.Context(), cmd); err != nil || res.Outcome != fsm.Applied {
			t.Fatal(res, err)
		}
	}
	for _, inParts := range []bool{false, true} {
		reply, err := s.State(t.Context(), &wire.StateRequest{Job: "j", Parts: inParts})
		if err != nil || reply.InParts != inParts || (len(reply.Params) == len(p)) == inParts {
			t.Errorf("parts %t: %d bytes, in parts %t, %v", inParts, len(reply.Params), reply.InParts, err)
		}
	}
	stream := &parts{t: t, ServerStreamingServer: &grpc.GenericServerStream[wire.StateRequest, wire.StatePart]{ServerStream: contextOnly{t}}}
	if err := s.StateParts(&wire.StateRequest{Job: "j"}, stream); err != nil {
		t.Fatal(err)
	}
	head := stream.got[0].Head
	if head == nil || head.Params != int64(len(p)) || head.Private != int64(len(q)) || len(stream.data) != len(p)+len(q) {
		t.Fatalf("%+v, then %d bytes", head, len(stream.data))
	}
	if tail := stream.data[len(p):]; tail[0] != 7 || tail[len(tail)-1] != 9 {
		t.Error("the second half is another")
	}
	if _, err := s.State(t.Context(), &wire.StateRequest{Job: "none"}); !errors.Is(err, cluster.ErrNotFound) {
		t.Error(err)
	}
}

// contextOnly is a stream of which only the context is used.
type contextOnly struct{ t *testing.T }

func (c contextOnly) Context() context.Context   { return c.t.Context() }
func (contextOnly) SetHeader(metadata.MD) error  { return nil }
func (contextOnly) SendHeader(metadata.MD) error { return nil }
func (contextOnly) SetTrailer(metadata.MD)       {}
func (contextOnly) SendMsg(any) error            { return nil }
func (contextOnly) RecvMsg(any) error            { return nil }
