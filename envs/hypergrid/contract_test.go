package hypergrid_test

import (
	"fmt"
	"testing"

	"github.com/driftmesh/driftmesh/envs/envtest"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
)

func TestContract(t *testing.T) {
	for _, c := range []hypergrid.Config{
		{Dim: 1, Height: 2, R0: 1, Reward: hypergrid.Standard, Exponent: 1},
		{Dim: 1, Height: 300, R0: 0.1, R1: 0.5, R2: 2, Reward: hypergrid.Standard, Exponent: 1},
		{Dim: 2, Height: 6, R0: 0.1, R1: 0.5, R2: 2, Reward: hypergrid.Standard, Exponent: 1},
		{Dim: 2, Height: 8, R0: 0.001, R1: 0.5, R2: 2, Reward: hypergrid.Standard, Exponent: 2},
		{Dim: 4, Height: 5, R0: 0.01, R1: 0.5, R2: 2, Reward: hypergrid.Standard, Exponent: 1},
		{Dim: 3, Height: 9, R0: 0.01, R1: 0.5, R2: 2, Reward: hypergrid.Cosine, Exponent: 1},
		{Dim: 3, Height: 8, R0: 0.01, R1: 0.5, Reward: hypergrid.Cosine, Exponent: 0.5},
		{Dim: 3, Height: 7, R0: 1e-12, R1: 1, Reward: hypergrid.Sparse, Exponent: 1},
		{Dim: 2, Height: 16, R0: 1e-5, R1: 0.1, R2: 2, Reward: hypergrid.Deceptive, Exponent: 1},
		{Dim: 2, Height: 10, R0: 0.01, R1: 1, Reward: hypergrid.Corner, Exponent: 2},
		{Dim: 12, Height: 8, R0: 0.01, R1: 0.5, R2: 2, Reward: hypergrid.Standard, Exponent: 1}, // not listed
	} {
		t.Run(fmt.Sprintf("%d-D height %d %s", c.Dim, c.Height, c.Reward), func(t *testing.T) {
			env, err := hypergrid.New(c)
			if err != nil {
				t.Fatal(err)
			}
			envtest.Run(t, env)
		})
	}
}
