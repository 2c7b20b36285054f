package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// TestVoterWithoutItsLogStaysAway: an emptied node never returns under its old
// ID; one that has only been founded starts its log.
func TestVoterWithoutItsLogStaysAway(t *testing.T) {
	f := &serverFlags{role: cluster.RoleServer, grpc: "127.0.0.1:0", raft: "127.0.0.1:0", init: true, single: true}
	f.data, f.gossip, f.preset = filepath.Join(t.TempDir(), "s"), "127.0.0.1:0", "local"
	quiet := slog.New(slog.DiscardHandler)
	for range 2 { // founded, then with its log
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- serve(ctx, f, quiet) }()
		for deadline := patience(t); !exists(f.data, votedFile); {
			select {
			case err := <-done:
				t.Fatal(err)
			case <-deadline.Done():
				t.Fatal("the server does not become a voter")
			case <-time.After(5 * time.Millisecond):
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(f.data, raftDir)); err != nil {
		t.Fatal(err)
	}
	if err := serve(t.Context(), f, quiet); !errors.Is(err, replica.ErrDamaged) {
		t.Errorf("without its log: %v, want ErrDamaged", err)
	}
	if exists(f.data, raftDir) {
		t.Error("a new log was begun")
	}
}
