package hypergrid

import "github.com/driftmesh/driftmesh/envs"

// regionDims is how many coordinates tell regions apart: 128 regions at most.
const regionDims = 7

var _ envs.Regioned = (*Grid)(nil)

// Region is the orthant of a cell: for each coordinate, up to the seventh, L in
// the lower half of the grid and H in the upper one, such as "LH".
func (g *Grid) Region(s envs.States, row int) string {
	cell := s.(*states).cell(row)
	var name [regionDims]byte
	n := min(len(cell), regionDims)
	for i := range n {
		name[i] = 'L'
		if 2*int(cell[i]) >= g.rewards.c.Height {
			name[i] = 'H'
		}
	}
	return string(name[:n])
}
