package plugin_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/envtest"
	"github.com/driftmesh/driftmesh/envs/plugin"
	"github.com/driftmesh/driftmesh/envs/registry"
	host "github.com/driftmesh/driftmesh/internal/plugin"
)

// walk goes from s0, or from an object, by forward actions and, where they are below 0,
// backward ones: −1 − b, and envs.Only.
func walk(env envs.Env, object string, actions ...int32) error {
	s := env.NewStates(1)
	if object != "" {
		if err := s.Parse(0, object); err != nil {
			return err
		}
		if err := s.Backward([]int32{0}, []int32{envs.Only}); err != nil {
			return err
		}
	}
	for _, a := range actions {
		take := s.Forward
		if a < 0 {
			take, a = s.Backward, -1-a
		}
		if err := take([]int32{0}, []int32{a}); err != nil {
			return err
		}
	}
	return nil
}

// TestFaultsOfGraphs: what a program says of its graph is held against itself, whether
// the graph is walked as a whole or a state at a time.
func TestFaultsOfGraphs(t *testing.T) {
	permit(t, "testdata")
	good := environment(t, nil, "careless.py")
	envtest.Run(t, good)
	envtest.Run(t, list(t, good))
	const stop = 3
	for _, c := range []struct {
		fault, listed string // what is said where the whole graph is walked,
		object        string
		actions       []int32 // and one by one
		walked        string
	}{
		{"parents", "", "[0,1]", []int32{-2}, "undo: action 1 in [0,1] gives [], from which it leads not to [0,1] but to [1]"},
		{"claims", "action 1 can be taken back in [0], and no state leads there by it", "", []int32{0}, " in [0] gives [0], from which it leads not to [0] but to [0,"},
		{"two ways", "action 1 leads to [0,1] from [0] and from [2]: two ways need two numbers", "", nil, ""},
		{"max_steps", "max_steps is 3, and [0,1,2] is 4 steps from the start", "", []int32{2, 0, 1, stop}, "max_steps is 3, and [0,1,2] is 4 steps from the start"},
		{"texts", `two objects have the text a set\n: each needs its own`, "", nil, ""},
	} {
		env := environment(t, map[string]any{"fault": c.fault}, "careless.py")
		for range 2 { // the second time as well
			if err := walk(env, c.object, c.actions...); c.walked != "" && (err == nil || !strings.Contains(err.Error(), c.walked)) {
				t.Errorf("%s: %v", c.fault, err)
			}
		}
		_, err := env.(envs.Lister).List(context.Background(), 100)
		if c.listed != "" && (!errors.Is(err, host.ErrProtocol) || !strings.Contains(err.Error(), c.listed)) || c.listed == "" && err != nil {
			t.Errorf("%s, listed: %v", c.fault, err)
		}
	}
}

// TestFaultsAreOneLine, and name the program.
func TestFaultsAreOneLine(t *testing.T) {
	permit(t, "testdata")
	params := map[string]any{"command": []any{"python3", "broken.py"}, "params": map[string]any{"fault": "features"}}
	_, err := registry.New(plugin.Name, params)
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "plugin python3 broken.py: breaks the plugin protocol: the first state: 0: active features [9]; want numbers from 0 to 3") {
		t.Errorf("%v", err)
	}
}
