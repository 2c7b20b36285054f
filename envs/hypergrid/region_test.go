package hypergrid_test

import (
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
)

// TestRegions are the orthants.
func TestRegions(t *testing.T) {
	for _, c := range []struct {
		dim, height int
		text, want  string
	}{{2, 4, "(1,2)", "LH"}, {2, 4, "(3,0)", "HL"}, {1, 3, "(1)", "L"}, {1, 3, "(2)", "H"}, {9, 2, "(1,0,1,0,1,0,1,0,1)", "HLHLHLH"}} {
		env, err := registry.New("hypergrid", map[string]any{"dim": c.dim, "height": c.height})
		if err != nil {
			t.Fatal(err)
		}
		s := env.NewStates(1)
		if err := s.Parse(0, c.text); err != nil {
			t.Fatal(err)
		}
		if got := env.(envs.Regioned).Region(s, 0); got != c.want {
			t.Errorf("%s is in %s, want %s", c.text, got, c.want)
		}
	}
}
