package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/plugin/plugintest"
)

// TestEnvsOfAPlugin: the example environment is described and drawn where it may run;
// where it may not, the error says with which flag it may.
func TestEnvsOfAPlugin(t *testing.T) {
	plugintest.Need(t)
	given := []string{"plugin", "--set", "command=[python3, env.py]", "--set", "params={capacity: 15}"}
	for _, verb := range []string{"describe", "draw"} {
		picture := filepath.Join(t.TempDir(), "plugin.png")
		args := append([]string{"envs", verb}, given...)
		if verb == "draw" {
			args = append(args, "--out", picture)
		}
		if r := command(t, args...); r.code != exitBadInput || !strings.Contains(r.stderr, "params.command") || !strings.Contains(r.stderr, "--allow-plugins DIR") {
			t.Errorf("%s without permission: %+v", verb, r)
		}
		args = append(args, "--allow-plugins", "../../examples/python")
		if verb == "describe" {
			args = append(args, "--json")
		}
		out := ok(t, args...)
		if verb == "draw" {
			if info, err := os.Stat(picture); err != nil || info.Size() < 1000 {
				t.Errorf("%v, %v", info, err)
			}
			continue
		}
		// Of all sets of items, those that the knapsack holds.
		facts, light := decode(t, out), 0
		for set := range 1 << 8 {
			load := 0
			for i, w := range []int{3, 5, 7, 4, 6, 2, 8, 5} {
				load += w * (set >> i & 1)
			}
			if load <= 15 {
				light++
			}
		}
		if facts["cells"] != float64(light) || facts["log_z"] == nil {
			t.Errorf("%d sets, and %s", light, out)
		}
	}
	if r := command(t, "envs", "describe", "plugin"); r.code != exitBadInput || !strings.Contains(r.stderr, "--set 'command=") {
		t.Errorf("%+v", r)
	}
}
