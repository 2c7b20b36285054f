package hypergrid

import (
	"math"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
)

// TestPotential is the reward of stopping, shifted to 0 in the origin.
func TestPotential(t *testing.T) {
	for _, reward := range []string{Standard, Cosine, Sparse, Deceptive, Corner} {
		c := Default()
		c.Dim, c.Height, c.Reward, c.Exponent = 2, 9, reward, 1.5
		env, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		grid := env.(envs.Enumerable)
		rewards := make([]float64, grid.NumObjects())
		grid.LogRewards(rewards)
		s := env.NewStates(1).(envs.Potential)
		out := []float64{math.NaN()}
		for cell := range grid.NumStates() {
			grid.Load(s, 0, cell)
			if err := s.LogPotential([]int32{0}, out); err != nil || out[0] != rewards[cell]-rewards[0] {
				t.Fatalf("%s: potential of %s is %v (%v), want %v", reward, s.Text(0), out[0], err, rewards[cell]-rewards[0])
			}
		}
		if err := s.Parse(0, "(1,1)"); err != nil {
			t.Fatal(err)
		}
		if s.LogPotential([]int32{0}, out) == nil {
			t.Error("an object has a potential")
		}
	}
}
