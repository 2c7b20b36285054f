// Package hypergrid is the standard benchmark of the GFlowNet literature
// (Bengio et al., NeurIPS 2021): start in the origin of a grid with H cells a
// side in D dimensions, step up one coordinate at a time, and stop anywhere.
// The reward has a wide bump in every corner and a high, narrow one inside it,
// with almost nothing in between: an explorer that has found one corner learns
// little about the others.
package hypergrid

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Names of the rewards, with a_i = |x_i/(H−1) − 1/2|.
const (
	// Standard is R0 + R1·Π[0.25 < a_i] + R2·Π[0.3 < a_i < 0.4].
	Standard = "standard"
	// Cosine is R0 + R1·Π (cos(50·a_i) + 1)·φ(5·a_i), φ the standard normal density.
	Cosine = "cosine"
	// Sparse is R0 + R1·[every x_i is 1 or H−2, and not all are 1]: 2^D − 1 single
	// cells (Pan et al., ICLR 2023, and torchgfn, where R0 is 1e-12 and R1 is 1).
	Sparse = "sparse"
	// Deceptive is R0 + R1 − R1·Π[0.1 < a_i] + R2·Π[0.3 < a_i < 0.4]: a cross through
	// the centre lures away from the corners (Kim et al., ICLR 2025, as in its code and
	// in torchgfn, where R0 = 1e-5, R1 = 0.1 and R2 = 2).
	Deceptive = "deceptive"
	// Corner is R0 + R1·Π exp(−(|u_i| − 0.75)²/(2·0.05)), u_i = 2·x_i/(H−1) − 1: a
	// smooth hump in every corner (alexhernandezgarcia/gflownet, proxy Corners,
	// without its constant in front).
	Corner = "corner"
)

const (
	// maxFeatures bounds dim·height, the width of the one-hot features.
	maxFeatures = 1 << 16
	// maxLog2Cells keeps the number of cells inside a float64.
	maxLog2Cells = 1000
	// maxExponent keeps differences of log-rewards meaningful in a float64.
	maxExponent = 1_000_000
)

// Config is one hypergrid.
type Config struct {
	Dim    int // D, number of coordinates
	Height int // H, values of a coordinate: 0..H−1
	// Terms of the reward. R0 must be positive, so that log R is finite
	// everywhere; R2 has a meaning for Standard and Deceptive only.
	R0, R1, R2 float64
	Reward     string  // one of the names above
	Exponent   float64 // β: the environment's reward is R^β
}

// Default is the 4-dimensional grid of height 8 with a hard reward.
func Default() Config {
	return Config{Dim: 4, Height: 8, R0: 0.001, R1: 0.5, R2: 2, Reward: Standard, Exponent: 1}
}

// Bind names the fields of c as parameters.
func Bind(c *Config) []params.Binding {
	return []params.Binding{
		params.Int("dim", &c.Dim, "number of coordinates"),
		params.Int("height", &c.Height, "cells a side"),
		params.Float("r0", &c.R0, "reward everywhere; small values make exploration hard"),
		params.Float("r1", &c.R1, "bonus of the wide bump in every corner (standard), of the cross (deceptive), of a target (sparse); factor of the others"),
		params.Float("r2", &c.R2, "bonus of the high, narrow bump in every corner (standard, deceptive)"),
		params.Text("reward", &c.Reward, "standard, cosine, sparse, deceptive or corner"),
		params.Float("exponent", &c.Exponent, "learn R^exponent"),
	}
}

// New returns the grid. It is an envs.Described and envs.Moded, and an
// envs.Enumerable when it has at most envs.MaxStates cells. Faults in c are
// *fielderr.Error, joined when there are several.
func New(c Config) (envs.Env, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	g := newGrid(c)
	if n, ok := countCells(c.Dim, c.Height); ok {
		return newListed(g, n), nil
	}
	return g, nil
}

func (c Config) validate() error {
	var faults []error
	fault := func(path string, value any, want string) {
		faults = append(faults, fielderr.New(path, value, want))
	}
	if c.Dim < 1 {
		fault("dim", c.Dim, "an integer of at least 1")
	}
	if c.Height < 2 {
		fault("height", c.Height, "an integer of at least 2")
	}
	if len(faults) == 0 {
		switch {
		case c.Dim > maxFeatures/c.Height:
			fault("dim", c.Dim, fmt.Sprintf("at most %d coordinates at height %d (dim times height is limited to %d)",
				maxFeatures/c.Height, c.Height, maxFeatures))
		case float64(c.Dim)*math.Log2(float64(c.Height)) > maxLog2Cells:
			fault("dim", c.Dim, fmt.Sprintf("at most %d coordinates at height %d (a grid is limited to 2^%d cells)",
				int(maxLog2Cells/math.Log2(float64(c.Height))), c.Height, maxLog2Cells))
		}
	}
	if !(c.R0 > 0) || math.IsInf(c.R0, 0) {
		fault("r0", c.R0, "a finite number above 0, so that log R is finite everywhere")
	}
	nonNegative := func(path string, v float64) {
		if !(v >= 0) || math.IsInf(v, 0) {
			fault(path, v, "a finite number of at least 0")
		}
	}
	nonNegative("r1", c.R1)
	nonNegative("r2", c.R2)
	if families := []string{Standard, Cosine, Sparse, Deceptive, Corner}; !slices.Contains(families, c.Reward) {
		fault("reward", c.Reward, params.OneOf(c.Reward, families))
	}
	if c.Reward == Sparse && c.Height < 4 && c.Height >= 2 {
		fault("height", c.Height, "an integer of at least 4 for the sparse reward, whose targets are at 1 and height - 2")
	}
	if !(c.Exponent > 0) || c.Exponent > maxExponent {
		fault("exponent", c.Exponent, fmt.Sprintf("a number above 0, at most %d", maxExponent))
	}
	if len(faults) == 0 && math.IsInf(c.R0+c.R1+c.R2, 0) {
		fault("r0", c.R0, "rewards whose sum is finite")
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

// countCells returns height^dim, and false when that is above envs.MaxStates.
func countCells(dim, height int) (int, bool) {
	n := 1
	for range dim {
		if n > envs.MaxStates/height {
			return 0, false
		}
		n *= height
	}
	return n, true
}
