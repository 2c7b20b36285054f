package hypergrid

import "fmt"

// LogPotential implements envs.Potential: what stopping here would earn, against
// what stopping in the origin would, log R(cell) − log R(origin).
func (s *states) LogPotential(rows []int32, out []float64) error {
	for i, row := range rows {
		if s.done[row] {
			return fmt.Errorf("hypergrid: row %d: the %s has a reward, and no potential", row, s.where(int(row)))
		}
		out[i] = s.g.rewards.logReward(s.cell(int(row))) - s.g.atOrigin
	}
	return nil
}
