package paramserver_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// memoryServer is a server of a founded cluster of one at a feature level,
// which grants nothing.
func memoryServer(t *testing.T, level uint8) (*paramserver.Server, *replica.Replica) {
	t.Helper()
	rep, err := replica.OpenMemory("n", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rep.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	for tick := time.NewTicker(time.Millisecond); !rep.IsLeader(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("a single voter does not lead")
		}
	}
	cmds := []any{fsm.Init{ClusterID: "c"}, fsm.Activate{Level: level}}
	if level < 2 {
		cmds = cmds[:1]
	}
	for _, cmd := range cmds {
		if _, err := rep.Apply(ctx, cmd); err != nil {
			t.Fatal(err)
		}
	}
	return paramserver.NewServer(paramserver.Config{Replica: rep, Node: "n", Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler)}), rep
}

// TestSubmitTakesTheShare of the job file where the cluster can hold it, and
// names the field where it cannot.
func TestSubmitTakesTheShare(t *testing.T) {
	for _, level := range []uint8{1, 2} {
		s, rep := memoryServer(t, level)
		for name, c := range map[string]struct {
			weight   float64
			priority int
			field    string // refused at level 1
		}{
			"plain":   {1, 0, ""},
			"heavy":   {2.5, 0, "mesh.weight"},
			"first":   {1, 7, "mesh.priority"},
			"both":    {3, -1, "mesh.weight"},
			"lighter": {0.5, 0, "mesh.weight"},
		} {
			spec := smallSpec()
			spec.Name, spec.Mesh.Weight, spec.Mesh.Priority = name, c.weight, c.priority
			data, err := spec.JSON()
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Submit(t.Context(), &wire.SubmitRequest{Spec: data})
			var fault *fielderr.Error
			if level < 2 && c.field != "" {
				if !errors.As(err, &fault) || fault.Path != c.field || !strings.Contains(err.Error(), "feature level 2") {
					t.Errorf("%s at level %d: %v, want a fault of %s", name, level, err, c.field)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s at level %d: %v", name, level, err)
				continue
			}
			rep.Read(func(st *fsm.State) {
				if j, ok := st.Job(name); !ok || j.Weight != c.weight || j.Priority != c.priority {
					t.Errorf("%s at level %d: %+v", name, level, j)
				}
			})
		}
	}
}

// TestShareVerb: what a request leaves out stays; bad values, jobs and levels
// are refused.
func TestShareVerb(t *testing.T) {
	weight, zero, priority, far := 2.5, 0.0, 3, 5000
	for _, level := range []uint8{1, 2} {
		s, rep := memoryServer(t, level)
		data, err := smallSpec().JSON()
		if err != nil {
			t.Fatal(err)
		}
		name := smallSpec().Name
		if _, err := s.Submit(t.Context(), &wire.SubmitRequest{Spec: data}); err != nil {
			t.Fatal(err)
		}
		for _, req := range []wire.ControlRequest{{Weight: &weight}, {Priority: &priority}, {}} {
			req.Job, req.Verb = name, wire.VerbShare
			_, err := s.Control(t.Context(), &req)
			if level < 2 && (err == nil || !strings.Contains(err.Error(), "feature level 2")) || level >= 2 && err != nil {
				t.Errorf("%+v at level %d: %v", req, level, err)
			}
		}
		if level < 2 {
			continue
		}
		rep.Read(func(st *fsm.State) {
			if j, _ := st.Job(name); j.Weight != weight || j.Priority != priority {
				t.Errorf("weight %v, priority %d", j.Weight, j.Priority)
			}
		})
		for want, req := range map[string]wire.ControlRequest{"weight": {Weight: &zero}, "priority": {Priority: &far}} {
			req.Job, req.Verb = name, wire.VerbShare
			var fault *fielderr.Error
			if _, err := s.Control(t.Context(), &req); !errors.As(err, &fault) || fault.Path != want {
				t.Errorf("%s: %v", want, err)
			}
		}
		if _, err := s.Control(t.Context(), &wire.ControlRequest{Job: "nothing", Verb: wire.VerbShare, Weight: &weight}); !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("no job: %v", err)
		}
	}
}
