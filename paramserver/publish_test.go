package paramserver_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/fanout"
	"github.com/driftmesh/driftmesh/internal/bf16"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// followStream hands what a server sends to a test.
type followStream struct {
	grpc.ServerStreamingServer[wire.FollowReply]
	ctx  context.Context
	sent chan *wire.FollowReply
}

func (s *followStream) Context() context.Context { return s.ctx }

func (s *followStream) Send(m *wire.FollowReply) error {
	select {
	case s.sent <- m:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// TestAServerPublishesWhatIsCommitted, in the job's encoding, encoded once, and
// counts what it sent.
func TestAServerPublishesWhatIsCommitted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	rep, err := replica.Open(replica.Config{
		Dir: t.TempDir(), ID: uuid.NewString(), Listen: "127.0.0.1:0", Single: true, Bootstrap: true, Logger: quiet,
		Resolve: func(string) (string, bool) { return "", false },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rep.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}()
	for tick := time.NewTicker(time.Millisecond); !rep.IsLeader(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("a single voter does not lead")
		}
	}
	apply := func(cmd any) {
		t.Helper()
		if res, err := rep.Apply(ctx, cmd); err != nil || res.Outcome != fsm.Applied {
			t.Fatal(res, err)
		}
	}
	spec := smallSpec()
	spec.Mesh.Publish = wire.BF16
	raw, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	apply(&fsm.Init{ClusterID: uuid.NewString()})
	apply(&fsm.CreateJob{Job: "grid", Spec: raw, Updates: 100})
	apply(&fsm.Grant{Job: "grid", Epoch: 1, Node: "n"})
	commit := func(base, version uint64, params []float32, done bool) {
		t.Helper()
		apply(&fsm.Commit{Job: "grid", Epoch: 1, Base: base, Version: version, Stamp: int64(version), Params: wire.EncodeFloats(nil, params), Private: []byte{1}, Done: done})
	}

	s := paramserver.NewServer(paramserver.Config{Replica: rep, Node: "n", Clock: clock.Real{}, Logger: quiet})
	if _, err := s.Offer(ctx, "nobody"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("an unknown job: %v, want ErrNotFound", err)
	}
	stream := &followStream{ctx: ctx, sent: make(chan *wire.FollowReply)}
	ended := make(chan error, 1)
	go func() { ended <- s.Follow(&wire.FollowRequest{Job: "grid", Any: true, Kind: wire.PeerWorker}, stream) }()
	next := func() *wire.FollowReply {
		t.Helper()
		select {
		case m := <-stream.sent:
			return m
		case err := <-ended:
			t.Fatalf("the stream ended: %v", err)
		case <-ctx.Done():
			t.Fatal("nothing was sent")
		}
		return nil
	}
	if m := next(); m.Head != nil || len(m.Route) != 1 || m.Route[0] != "n" {
		t.Errorf("before the first version: %+v", m)
	}
	commit(0, 7, []float32{1, 2.001}, false)
	m := next()
	sum := sha256.Sum256(m.Part)
	if m.Head == nil || m.Head.Position.Version != 7 || m.Head.Epoch != 1 || m.Head.Stamp != 7 || m.Head.Encoding != wire.BF16 || m.Head.Size != 4 || string(m.Head.Hash) != string(sum[:]) {
		t.Errorf("the first version: %+v", m.Head)
	}
	if got, err := bf16.Decode(m.Part); err != nil || got[0] != 1 || got[1] != 2 {
		t.Errorf("parameters %v, %v", got, err)
	}
	a, err := s.Offer(ctx, "grid")
	b, errB := s.Offer(ctx, "grid")
	if err != nil || errB != nil || a.Snapshot != b.Snapshot {
		t.Errorf("one version is encoded twice: %v, %v", err, errB)
	}
	commit(7, 100, []float32{1, 2.001}, true) // the same bytes, and the last ones
	if m = next(); m.Head == nil || m.Head.Position.Version != 100 || !m.Head.Final || !m.Head.Same || len(m.Part) != 0 {
		t.Errorf("the last version: %+v with %d bytes", m.Head, len(m.Part))
	}
	if err := <-ended; err != nil {
		t.Errorf("after the last version: %v", err)
	}
	if got := s.Egress().Counts(); got[wire.PeerWorker] != (fanout.Sent{Heads: 2, Bytes: 4}) {
		t.Errorf("counted %+v", got)
	}
}
