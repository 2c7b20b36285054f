package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/diffusion"
	"github.com/driftmesh/driftmesh/envs/envtest"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/envs/plugin"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	host "github.com/driftmesh/driftmesh/internal/plugin"
	"github.com/driftmesh/driftmesh/internal/plugin/plugintest"
)

func TestMain(m *testing.M) {
	if err := plugintest.Prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func permit(t *testing.T, dirs ...string) {
	t.Helper()
	h, err := host.Permit(dirs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
}

func environment(t *testing.T, p map[string]any, script string) envs.Env {
	t.Helper()
	env, err := plugin.New(plugin.Config{Command: []string{"python3", script}, Params: p})
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func list(t *testing.T, env envs.Env) envs.Enumerable {
	t.Helper()
	e, err := env.(envs.Lister).List(context.Background(), 100_000)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestContract: environments in Python keep the contract that all others keep,
// with a stop action and without, one state at a time and in batches.
func TestContract(t *testing.T) {
	permit(t, "testdata", "../../examples/python")
	for _, c := range []struct {
		name, script string
		params       map[string]any
	}{
		{"knapsack", "env.py", map[string]any{"capacity": 6}},
		{"sequence", "sequence.py", nil},
		{"grid", "grid.py", map[string]any{"dim": 2, "height": 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := environment(t, c.params, c.script)
			envtest.Run(t, env)
			envtest.Run(t, list(t, env))
		})
	}
}

// TestGridIsTheGrid: the hypergrid in Python and the one in Go are the same graph
// with the same rewards.
func TestGridIsTheGrid(t *testing.T) {
	permit(t, "testdata")
	c := hypergrid.Default()
	c.Dim, c.Height = 3, 6
	ours, err := hypergrid.New(c)
	if err != nil {
		t.Fatal(err)
	}
	theirs := environment(t, map[string]any{"dim": 3, "height": 6}, "grid.py")
	if a, b := ours.Spec(), theirs.Spec(); a.Actions != b.Actions || a.Features != b.Features || a.MaxSteps != b.MaxSteps {
		t.Fatalf("%+v and %+v", a, b)
	}
	e, l := ours.(envs.Enumerable), list(t, theirs)
	if e.NumStates() != l.NumStates() || e.NumObjects() != l.NumObjects() {
		t.Fatalf("%d states and %d objects; want %d and %d", l.NumStates(), l.NumObjects(), e.NumStates(), e.NumObjects())
	}
	_, z := envs.Target(e)
	_, w := envs.Target(l)
	if math.Abs(z-w) > 1e-9 || envs.CountTrajectories(e) != envs.CountTrajectories(l) {
		t.Errorf("log Z %v and %v, %v and %v trajectories", z, w, envs.CountTrajectories(e), envs.CountTrajectories(l))
	}
}

// TestRewardInPlace: a hypergrid whose rewards come from Python passes the contract,
// listed and not, and its log Z is that of the rewards.
func TestRewardInPlace(t *testing.T) {
	permit(t, "../../examples/python")
	c := hypergrid.Default()
	c.Dim, c.Height = 2, 8
	base, err := hypergrid.New(c)
	if err != nil {
		t.Fatal(err)
	}
	env := plugin.Reward(base, &job.Reward{Command: []string{"python3", "reward.py"}, Params: map[string]any{"floor": 0.5}, Processes: 2, Batch: 16})
	envtest.Run(t, env)
	e := list(t, env)
	envtest.Run(t, e)
	// |x − y| ≥ 6 holds in six cells of 64.
	if _, z := envs.Target(e); math.Abs(z-math.Log(64*0.5+6)) > 1e-9 {
		t.Errorf("log Z %v", z)
	}
	if _, ok := env.(envs.Moded); ok {
		t.Error("the modes of the grid's own reward are still there")
	}
	if _, err := env.(envs.Lister).List(context.Background(), 63); !errors.Is(err, envs.ErrNotEnumerable) {
		t.Error(err)
	}
}

// TestRewardOfPoints: actions that are points have rewards of a plugin like all others.
func TestRewardOfPoints(t *testing.T) {
	permit(t, "../../internal/plugin/testdata")
	base, err := diffusion.New(diffusion.Config{Target: "gauss25", Steps: 5, Sigma: 2.5})
	if err != nil {
		t.Fatal(err)
	}
	env := plugin.Reward(base, &job.Reward{Command: []string{"python3", "trivial_texts.py"}})
	envtest.Run(t, env)
}

// TestWithoutPermission: a process that may not run the program knows the states and
// no reward.
func TestWithoutPermission(t *testing.T) {
	base, err := hypergrid.New(hypergrid.Default())
	if err != nil {
		t.Fatal(err)
	}
	env := plugin.Reward(base, &job.Reward{Command: []string{"python3", "reward.py"}})
	s := env.NewStates(1)
	if err := s.Forward([]int32{0}, []int32{4}); err != nil || !s.Terminal(0) {
		t.Fatal(err)
	}
	var field *fielderr.Error
	for _, err := range []error{env.(envs.Remote).Ready(), s.LogReward([]int32{0}, make([]float64, 1))} {
		if !errors.As(err, &field) || field.Path != "command" || !strings.Contains(field.Want, "--allow-plugins") {
			t.Errorf("%v", err)
		}
	}
	if _, err := env.(envs.Lister).List(context.Background(), 1<<20); err == nil {
		t.Error("rewards without permission")
	}
	if _, err := plugin.New(plugin.Config{Command: []string{"python3", "env.py"}}); !errors.As(err, &field) {
		t.Error(err)
	}
}

// TestFaults of rows: an object that comes twice is at fault twice and asked about
// once; the others have their rewards.
func TestFaults(t *testing.T) {
	permit(t, "testdata", "../../internal/plugin/testdata")
	base, err := hypergrid.New(hypergrid.Config{Dim: 1, Height: 9, R0: 1, Reward: hypergrid.Standard, Exponent: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := plugin.Reward(base, &job.Reward{Command: []string{"python3", "faulty.py", "nan"}}).NewStates(4)
	for row, text := range []string{"(7)", "(1)", "(7)", "(3)"} {
		if err := s.Parse(row, text); err != nil {
			t.Fatal(err)
		}
	}
	out := make([]float64, 4)
	var faults *envs.RewardFaults
	if err := s.LogReward([]int32{0, 1, 2, 3}, out); !errors.As(err, &faults) || fmt.Sprint(faults.Index) != "[0 2]" || !strings.Contains(err.Error(), `object "(7)": reward nan`) {
		t.Errorf("%v", err)
	}
	if !math.IsNaN(out[0]) || !math.IsNaN(out[2]) || math.Abs(out[1]-math.Log(2)) > 1e-12 || math.Abs(out[3]-math.Log(4)) > 1e-12 {
		t.Errorf("%v", out)
	}
}

func TestBrokenEnvironments(t *testing.T) {
	permit(t, "testdata", "../../examples/python")
	for _, c := range []struct{ fault, says string }{
		{"features", "active features [9]; want numbers from 0 to 3, ascending"},
		{"dead end", "no action is legal, and it is no finished object"},
		{"no actions", "broken.actions is None; want an integer"},
		{"too many", "max_steps: got 1073741824; want 1 to"},
	} {
		if _, err := plugin.New(plugin.Config{Command: []string{"python3", "broken.py"}, Params: map[string]any{"fault": c.fault}}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.fault, err)
		}
	}
	for _, c := range []struct{ fault, says string }{
		{"one way", "action 0 leads from 0 to 1, and cannot be taken back there"},
		{"raises", "KeyError: 'nothing'"},
	} {
		s := environment(t, map[string]any{"fault": c.fault}, "broken.py").NewStates(2)
		if err := s.Forward([]int32{1}, []int32{0}); err == nil || !strings.Contains(err.Error(), c.says) || s.Text(1) != "0" {
			t.Errorf("%s: %v, at %s", c.fault, err, s.Text(1))
		}
	}
	if _, err := environment(t, map[string]any{"fault": "cycle"}, "broken.py").(envs.Lister).List(context.Background(), 100); err == nil || !strings.Contains(err.Error(), "has a cycle") {
		t.Error(err)
	}
	if _, err := plugin.New(plugin.Config{Command: []string{"python3", "reward.py"}}); err == nil || !strings.Contains(err.Error(), "it serves the reward off_diagonal") {
		t.Error(err)
	}
	if _, err := plugin.New(plugin.Config{Command: []string{"python3", "env.py"}, Batch: 1 << 20}); err == nil || !strings.HasPrefix(err.Error(), "batch: got 1048576") {
		t.Error(err)
	}
}
