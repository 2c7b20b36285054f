package chaos

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/internal/job"
)

// endless loads the quick grid as a job that outlives a test.
func endless(t *testing.T, fields ...string) *job.Spec {
	t.Helper()
	spec, _, err := job.Load("../examples/hypergrid-2d.yaml", append([]string{"train.updates=1000000000", "eval.every=0"}, fields...))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// TestFailover is one kill of each kind of `make failover`, with patience for a
// machine that does other things besides.
func TestFailover(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	f, err := MeasureFailover(ctx, FailoverConfig{Binary: binary(t), Dir: t.TempDir(), Spec: endless(t, "name=failover"), Kills: 1, Seed: 1, Servers: 3, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	for name, took := range map[string][]float64{"leader": f.Leader, "learner": f.Learner, "worker": f.Worker} {
		if len(took) != 1 || !(took[0] < 10) {
			t.Errorf("%s: %v seconds", name, took)
		}
	}
}

// TestMachines trains on ten network namespaces while two nodes die and two join.
func TestMachines(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	spec := endless(t, "name=machines", "train.updates=20000", "optimiser.learning_rate.over=20000")
	m, err := MeasureMachines(ctx, MachinesConfig{Binary: binary(t), Dir: t.TempDir(), Spec: spec, Servers: 3, Workers: 7, Seed: 1, Log: t.Logf})
	if errors.Is(err, ErrNoRoot) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if m.TV > 0.05 || m.Nodes != 10 {
		t.Errorf("%+v", m)
	}
}
