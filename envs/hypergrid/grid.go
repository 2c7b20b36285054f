package hypergrid

import (
	"math"

	"github.com/driftmesh/driftmesh/envs"
)

// maxModes is the most modes that are numbered.
const maxModes = 1 << 24

// Grid is a hypergrid of any size. Forward action i < D increments coordinate
// i and action D stops; backward action i decrements coordinate i.
//
// A mode is a corner box: the cells that earn the R2 bonus and lie on the same
// side of the grid in every coordinate. With the sparse reward it is a target.
type Grid struct {
	spec    envs.Spec
	rewards rewards
	// sides of a coordinate that have band cells: 0 low, 1 high. Small heights
	// may have none or only one.
	sides    []int
	numModes int
	atOrigin float64 // log R of the origin
}

func newGrid(c Config) *Grid {
	g := &Grid{
		spec: envs.Spec{
			Name:            "hypergrid",
			Actions:         c.Dim + 1,
			BackwardActions: c.Dim,
			Features:        c.Dim * c.Height,
			MaxActive:       c.Dim,
			MaxSteps:        c.Dim*(c.Height-1) + 1,
			Positions:       c.Dim, // each holds a coordinate
			Vocabulary:      c.Height,
		},
		rewards: newRewards(c),
	}
	g.atOrigin = g.rewards.logReward(make([]int32, c.Dim))
	if (c.Reward == Standard || c.Reward == Deceptive) && c.R2 > 0 {
		var has [2]bool
		for x, z := range g.rewards.zone {
			if z == band {
				has[side(int32(x), c.Height)] = true
			}
		}
		for s, ok := range has {
			if ok {
				g.sides = append(g.sides, s)
			}
		}
	}
	if n := g.countModes(); n <= maxModes {
		g.numModes = int(n)
	}
	return g
}

// countModes is the number of modes, however many.
func (g *Grid) countModes() float64 {
	c := g.rewards.c
	switch {
	case c.Reward == Sparse && c.R1 > 0:
		return math.Pow(2, float64(c.Dim)) - 1
	case len(g.sides) == 0:
		return 0
	}
	return math.Pow(float64(len(g.sides)), float64(c.Dim))
}

// side is 0 in the lower half of a coordinate and 1 in the upper.
func side(x int32, height int) int {
	if 2*int(x) > height-1 {
		return 1
	}
	return 0
}

// Spec is the fixed shape of the environment.
func (g *Grid) Spec() envs.Spec { return g.spec }

// NumModes is the number of corner boxes. It is 0 when no cell has the R2
// bonus, and when there are too many modes to number (Facts counts them).
func (g *Grid) NumModes() int { return g.numModes }

// Mode returns the corner box of a terminal row, coordinate 0 being the lowest
// digit of the number; -1 for cells without the R2 bonus. Targets of the sparse
// reward are numbered by which coordinates are at H−2, less one.
func (g *Grid) Mode(s envs.States, row int) int {
	st := s.(*states)
	if g.numModes == 0 || !st.done[row] {
		return -1
	}
	if g.rewards.c.Reward == Sparse {
		return g.target(st.cell(row))
	}
	mode, digit := 0, 1
	for _, v := range st.cell(row) {
		if g.rewards.zone[v] != band {
			return -1
		}
		if len(g.sides) == 2 {
			mode += digit * side(v, g.rewards.c.Height)
			digit *= 2
		}
	}
	return mode
}

// target is the number of a sparse reward's target; -1 for other cells.
func (g *Grid) target(cell []int32) int {
	bits := 0
	for i, v := range cell {
		switch g.rewards.zone[v] {
		case inner:
			return -1
		case band:
			bits |= 1 << i
		}
	}
	return bits - 1 // all ones are no target
}

// NewStates returns n states in the origin.
func (g *Grid) NewStates(n int) envs.States {
	return &states{
		g: g, dim: g.rewards.c.Dim, height: int32(g.rewards.c.Height),
		x: make([]int32, n*g.rewards.c.Dim), done: make([]bool, n),
	}
}

// Listed is a Grid that is small enough to enumerate. Cells are numbered in
// mixed radix with coordinate 0 as the lowest digit, which is a topological
// order; the object that stopping in a cell makes has the cell's number.
type Listed struct {
	*Grid
	cells  int
	stride []int // the number of cell x is Σ stride[i]·x[i]
}

func newListed(g *Grid, cells int) *Listed {
	l := &Listed{Grid: g, cells: cells, stride: make([]int, g.rewards.c.Dim)}
	for i, n := 0, 1; i < len(l.stride); i++ {
		l.stride[i] = n
		n *= g.rewards.c.Height
	}
	return l
}

// NumStates is the number of cells.
func (l *Listed) NumStates() int { return l.cells }

// NumObjects is the number of cells.
func (l *Listed) NumObjects() int { return l.cells }

// Load makes the row the unfinished state in that cell.
func (l *Listed) Load(s envs.States, row int, state int) {
	st := s.(*states)
	height := l.rewards.c.Height
	cell := st.cell(row)
	for i := range cell {
		cell[i] = int32(state % height)
		state /= height
	}
	st.done[row] = false
}

// Child returns the cell with one coordinate incremented, or the object.
func (l *Listed) Child(state int, action int) (to int, terminal bool) {
	if action == len(l.stride) {
		return state, true
	}
	return state + l.stride[action], false
}

// Object returns the number of a terminal row.
func (l *Listed) Object(s envs.States, row int) int {
	n := 0
	for i, v := range s.(*states).cell(row) {
		n += l.stride[i] * int(v)
	}
	return n
}

// LogRewards writes log R of every cell.
func (l *Listed) LogRewards(out []float64) {
	cell := make([]int32, l.rewards.c.Dim)
	top := int32(l.rewards.c.Height - 1)
	for n := range out {
		out[n] = l.rewards.logReward(cell)
		for i := range cell { // count one up
			if cell[i] < top {
				cell[i]++
				break
			}
			cell[i] = 0
		}
	}
}
