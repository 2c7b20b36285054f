package study

import (
	"context"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/study/fit"
)

// OnPolicy compares on-policy training of one Gaussian on two humps, with the
// exact log Z, with the minimiser of D_f: min(hump masses) shall not grow with
// alpha.
func OnPolicy(train Trainer) experiment.Computation {
	return experiment.Computation{
		About: "one Gaussian on two humps, on-policy: mass of the smaller hump per alpha, trained and as the minimiser of D_f",
		Check: func(given map[string]any) error { _, err := decodeHumps(given); return err },
		Run: func(ctx context.Context, given map[string]any, seed uint64) (*experiment.Table, error) {
			c, err := decodeHumps(given)
			if err != nil {
				return nil, err
			}
			return c.onPolicy(ctx, train, seed)
		},
		Conclude: concludeOnPolicy,
	}
}

var onPolicyColumns = []string{"separation", "alpha", "fit_mass", "fit_mean", "fit_std", "fit_divergence", "minima", "rest_mass", "trained_mass", "low", "high", "seeds", "diverged"}

// concludeOnPolicy says of every separation whether the order holds.
func concludeOnPolicy(t *experiment.Table) {
	t.Notes, t.Values = nil, map[string]float64{"order_holds": 1, "largest_rise": 0}
	for _, s := range sweeps(t, func(row map[string]any) string { return fmt.Sprintf("separation %v: ", row["separation"]) }) {
		fits, trained := along(s.alphas, s.fits, tiny), along(s.alphas, s.means, slack)
		t.Notes = append(t.Notes, s.where+fits.say("the minimiser's smaller mass"))
		t.Values["largest_rise"] = max(t.Values["largest_rise"], fits.rise)
		if s.seeds {
			t.Notes = append(t.Notes, s.where+trained.say("the trained smaller mass"))
		}
		if fits.rise > 0 || trained.rise > 0 || fits.unknown > 0 || s.seeds && trained.unknown > 0 {
			t.Values["order_holds"] = 0
		}
		if gap := s.gap(); gap > 0 {
			t.Values["largest_gap"] = max(t.Values["largest_gap"], gap)
		}
	}
}

// onPolicyCell is one separation and alpha.
type onPolicyCell struct {
	alpha   float64
	best    fit.Fit // of D_f
	rest    fit.Fit // where the expected gradient leads from the model's start
	mass    float64 // of the smaller hump, for best
	resting float64 // and for rest; NaN where there is none
	trained []float64
	hit     int // trainings that diverged
}

func (c *humpsConfig) onPolicy(ctx context.Context, train Trainer, seed uint64) (*experiment.Table, error) {
	t := &experiment.Table{Columns: onPolicyColumns}
	var all [][]*onPolicyCell
	var targets []*humps
	var tasks []task
	for _, separation := range c.separations {
		h, err := newHumps(c.env(separation))
		if err != nil {
			return nil, err
		}
		var cells []*onPolicyCell
		for _, alpha := range c.alphas {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			cell := &onPolicyCell{alpha: alpha, trained: make([]float64, c.seeds), resting: math.NaN()}
			d, err := divergence(alpha)
			if err != nil {
				return nil, err
			}
			if cell.best, err = h.MinDivergence(d); err != nil {
				return nil, err
			}
			cell.mass = h.smallerOf(cell.best)
			if cell.rest, err = h.Rest(d, fit.Behaviour{}, fit.Exact, h.start()); err == nil {
				cell.resting = h.smallerOf(cell.rest)
			}
			for k := range c.seeds {
				tasks = append(tasks, task{c.job(separation, alpha, "exact", seed+uint64(k)), func(logModel []float64) {
					if cell.trained[k] = math.NaN(); logModel != nil {
						cell.trained[k] = h.smaller(logModel)
					} else {
						cell.hit++
					}
				}})
			}
			cells = append(cells, cell)
		}
		all, targets = append(all, cells), append(targets, h)
	}
	if err := trainAll(ctx, train, tasks); err != nil {
		return nil, err
	}
	masses := experiment.Figure{Title: "Mass of the smaller hump, on-policy", X: "alpha", Y: "mass of the smaller hump",
		Caption: "Solid with 95 % intervals over seeds: trained. Dashed: the minimiser of D_f."}
	for i, separation := range c.separations {
		trained := experiment.Series{Name: fmt.Sprintf("separation %v", separation)}
		reference := experiment.Series{Reference: true}
		for _, cell := range all[i] {
			e := NewEstimate(cell.trained)
			t.Rows = append(t.Rows, []any{separation, cell.alpha, cell.mass, cell.best.Mean()[0], cell.best.Std()[0], number(cell.best.Value), float64(1 + len(cell.best.Others)),
				number(cell.resting), number(e.Mean), number(e.Low), number(e.High), float64(e.N), float64(cell.hit)})
			reference.X, reference.Y = append(reference.X, cell.alpha), append(reference.Y, cell.mass)
			if e.N > 1 {
				trained.X, trained.Y = append(trained.X, cell.alpha), append(trained.Y, e.Mean)
				trained.Low, trained.High = append(trained.Low, e.Low), append(trained.High, e.High)
			}
		}
		masses.Series = append(masses.Series, reference)
		if len(trained.X) > 0 {
			masses.Series = append(masses.Series, trained)
		}
		if separation == c.picture {
			t.Figures = append(t.Figures, targets[i].picture(separation, all[i]))
		}
	}
	t.Figures = append(t.Figures, masses)
	concludeOnPolicy(t)
	return t, nil
}

// picture shows the target and the fit of every member.
func (h *humps) picture(separation float64, cells []*onPolicyCell) experiment.Figure {
	f := experiment.Figure{
		Title:   fmt.Sprintf("From covering to seeking: one Gaussian on two humps %v apart", separation),
		Caption: "Dashed: the target. Lines: the minimisers of D_f for each alpha, probability per cell.",
		X:       "coordinate", Y: "probability",
	}
	var xs []float64
	for _, p := range h.points {
		xs = append(xs, p[0])
	}
	line := func(logQ []float64) (out []float64) {
		for _, lq := range logQ {
			out = append(out, math.Exp(lq))
		}
		return out
	}
	f.Series = append(f.Series, experiment.Series{Name: "target", X: xs, Y: line(h.LogTarget()), Reference: true})
	logQ := make([]float64, len(xs))
	for _, cell := range cells {
		h.LogProb(cell.best.Theta, logQ)
		f.Series = append(f.Series, experiment.Series{Name: fmt.Sprintf("alpha %v", cell.alpha), X: xs, Y: line(logQ)})
	}
	return f
}
