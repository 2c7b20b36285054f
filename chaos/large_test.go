package chaos

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// largeSpec is a job whose parameters alone are larger than a message of the
// mesh may be, at the least cost: no moments.
func largeSpec(t *testing.T) *job.Spec {
	t.Helper()
	spec, _, err := job.Load("../examples/hypergrid-2d.yaml", []string{
		"name=large", "policy.hidden=[4096,4096]", "optimiser.kind=sgd", "optimiser.learning_rate=1e-4",
		"train.batch=2", "train.updates=2", "mesh.rollout=2", "eval.every=0", "eval.max_states=1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if *long {
		spec.Policy.Hidden, spec.Optimiser.Kind = []int{4640, 4640}, "adam"
	}
	return spec
}

// peak is the most memory that a process has had, in bytes.
func peak(n *Node) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	number, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	kib, _ := strconv.ParseInt(number, 10, 64)
	return kib << 10
}

var long = flag.Bool("long", false, "let the large state have 247 MiB, under adam")

// TestALargeState is committed on three voters, handed to a worker, read back
// through every cap, in the snapshots, and there after all processes were
// started again.
func TestALargeState(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes that move gigabytes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	spec, dir := largeSpec(t), t.TempDir()
	rig, err := NewRig(RigConfig{Binary: binary(t), Dir: dir, Servers: 3, Workers: 1, Slots: 1, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rig.Close(); err != nil {
			t.Error(err)
		}
	}()
	state := func() *wire.StateReply {
		t.Helper()
		reply, err := rig.State(ctx, spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	data, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.Submit(ctx, data); err != nil {
		t.Fatal(err)
	}
	watch := &Watcher{Leader: rig.leader, ClusterID: rig.clusterID, Job: spec.Name}
	began := time.Now()
	if _, err := watch.Until(ctx, func(o Observation) bool { return o.Status == "finished" }); err != nil {
		t.Fatal(err)
	}
	before := state()
	t.Logf("%d updates of %.1f MiB in %v", before.Info.Version, float64(len(before.Params)+len(before.Private))/(1<<20), time.Since(began).Round(time.Millisecond))
	for _, n := range rig.Nodes() {
		t.Logf("%s: up to %d MiB", n.Name, peak(n)>>20)
	}
	if len(before.Params) <= wire.MaxFrame || before.Info.Version != uint64(spec.Train.Updates) {
		t.Errorf("version %d with %d bytes of parameters; want more than %d", before.Info.Version, len(before.Params), wire.MaxFrame)
	}
	// The worker had those parameters: what was trained on came from its session.
	if len(before.Sessions) == 0 || before.Info.Trajectories < before.Info.Version*uint64(spec.Train.Batch) {
		t.Errorf("%d trajectories of %d sessions", before.Info.Trajectories, len(before.Sessions))
	}
	// Commits of this size make a snapshot due, on every server.
	for large := 0; large < 3; {
		found, err := filepath.Glob(filepath.Join(dir, "server-*", "raft", "snapshots", "*", "state.bin"))
		if err != nil {
			t.Fatal(err)
		}
		large = 0
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.Size() > wire.MaxFrame {
				large++
			}
		}
		if err := clock.Rest(ctx, lookEvery); err != nil {
			t.Fatalf("%d snapshots with the state: %v", large, err)
		}
	}
	for _, n := range rig.Nodes() {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range rig.Nodes() {
		if err := rig.Restart(n); err != nil {
			t.Fatal(err)
		}
	}
	after := state()
	if after.Info.Status != "finished" || after.Info.Version != before.Info.Version || !bytes.Equal(after.Info.StateHash, before.Info.StateHash) ||
		!bytes.Equal(after.Params, before.Params) || !bytes.Equal(after.Private, before.Private) {
		t.Errorf("after the restart: %s at version %d, hash %x; before %x", after.Info.Status, after.Info.Version, after.Info.StateHash, before.Info.StateHash)
	}
}
