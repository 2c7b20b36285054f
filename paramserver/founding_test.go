package paramserver_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// TestSubmitBeforeTheClusterIsFounded is to be tried again: a server leads a
// moment before its first command, the cluster's identity, is committed.
func TestSubmitBeforeTheClusterIsFounded(t *testing.T) {
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
	spec, err := smallSpec().JSON()
	if err != nil {
		t.Fatal(err)
	}
	s := paramserver.NewServer(paramserver.Config{Replica: rep, Node: "n", Clock: clock.Real{}, Logger: quiet})
	if _, err := s.Submit(ctx, &wire.SubmitRequest{Spec: spec}); !errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, cluster.ErrConflict) {
		t.Errorf("before: %v, want ErrUnavailable", err)
	}
	if _, err := rep.Apply(ctx, &fsm.Init{ClusterID: uuid.NewString()}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Submit(ctx, &wire.SubmitRequest{Spec: spec}); err != nil {
		t.Errorf("after: %v", err)
	}
}
