package paramserver_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// hands is a clock that a test moves.
type hands struct{ now time.Time }

func (h *hands) Now() time.Time { return h.now }

// TestEverySessionHasItsGrace: one of a worker that gossip does not show ends
// after the grace, and the next one of that worker has a grace of its own: a
// worker that reaches the servers and is cut off from gossip samples on.
func TestEverySessionHasItsGrace(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	id, cid := uuid.NewString(), uuid.NewString()
	rep, err := replica.Open(replica.Config{
		Dir: t.TempDir(), ID: id, Listen: "127.0.0.1:0", Single: true, Bootstrap: true, Logger: quiet,
		Resolve: func(string) (string, bool) { return "", false },
	})
	if err != nil {
		t.Fatal(err)
	}
	mesh, err := cluster.NewMesh(cluster.MeshConfig{
		NodeID: id, ClusterID: cid, Role: cluster.RoleServer, Bind: "127.0.0.1:0", GRPCAddr: "127.0.0.1:7001", RaftAddr: rep.Addr(), Preset: cluster.Local(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := mesh.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := rep.Shutdown(context.Background()); err != nil {
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
	spec, err := smallSpec().JSON()
	if err != nil {
		t.Fatal(err)
	}
	apply(&fsm.Init{ClusterID: cid})
	apply(&fsm.CreateJob{Job: "j", Spec: spec, Updates: 10})
	clock := &hands{time.Unix(1000, 0)}
	s := paramserver.NewServer(paramserver.Config{Replica: rep, Mesh: mesh, Node: id, Clock: clock, Logger: quiet})
	open := func(session string) {
		t.Helper()
		apply(&fsm.OpenSession{Job: "j", Session: session, Worker: "w", Stamp: clock.now.UnixNano()})
	}
	after := func(d time.Duration, session string, expired bool) {
		t.Helper()
		clock.now = clock.now.Add(d)
		s.ExpireSessions(ctx)
		rep.Read(func(st *fsm.State) {
			if got, ok := st.Session("j", session); !ok || got.Expired != expired {
				t.Errorf("after %s session %q has expired %t (known %t), want %t", d, session, got.Expired, ok, expired)
			}
		})
	}
	open("first")
	after(0, "first", false)
	after(29*time.Second, "first", false)
	after(2*time.Second, "first", true)
	open("second")
	after(time.Second, "second", false)
	after(28*time.Second, "second", false)
	after(2*time.Second, "second", true)
}
