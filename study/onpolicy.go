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
	t := &experiment.Table{
		Columns: []string{"separation", "alpha", "fit_mass", "fit_mean", "fit_std", "fit_divergence", "minima", "rest_mass", "trained_mass", "low", "high", "seeds", "diverged"},
		Values:  map[string]float64{},
	}
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
	holds, worst, gap := 1.0, 0.0, 0.0
	for i, separation := range c.separations {
		var names []string
		var fits, steps []float64
		trained := experiment.Series{Name: fmt.Sprintf("separation %v", separation)}
		reference := experiment.Series{Reference: true}
		for k, cell := range all[i] {
			e := NewEstimate(cell.trained)
			t.Rows = append(t.Rows, []any{separation, cell.alpha, cell.mass, cell.best.Mean()[0], cell.best.Std()[0], number(cell.best.Value), float64(1 + len(cell.best.Others)),
				number(cell.resting), number(e.Mean), number(e.Low), number(e.High), float64(e.N), float64(cell.hit)})
			if e.N > 0 { // a training may stay in a minimum that is not the lowest
				near := math.Abs(e.Mean - cell.mass)
				if cell.resting == cell.resting {
					near = min(near, math.Abs(e.Mean-cell.resting))
				}
				gap = max(gap, near)
			}
			names = append(names, fmt.Sprint(cell.alpha))
			reference.X, reference.Y = append(reference.X, cell.alpha), append(reference.Y, cell.mass)
			if e.N > 1 {
				trained.X, trained.Y = append(trained.X, cell.alpha), append(trained.Y, e.Mean)
				trained.Low, trained.High = append(trained.Low, e.Low), append(trained.High, e.High)
			}
			if k > 0 {
				before := all[i][k-1]
				fits = append(fits, cell.mass-before.mass)
				worst = max(worst, cell.mass-before.mass)
				steps = append(steps, significant(difference(before.trained, cell.trained)))
				if steps[k-1] > slack || fits[k-1] > tiny {
					holds = 0
				}
			}
		}
		t.Notes = append(t.Notes, fmt.Sprintf("separation %v: ", separation)+order("the minimiser's smaller mass", names, fits, tiny))
		if c.seeds > 1 {
			t.Notes = append(t.Notes, fmt.Sprintf("separation %v: ", separation)+order("the trained smaller mass", names, steps, slack))
		}
		masses.Series = append(masses.Series, reference)
		if len(trained.X) > 0 {
			masses.Series = append(masses.Series, trained)
		}
		if separation == c.picture {
			t.Figures = append(t.Figures, targets[i].picture(separation, all[i]))
		}
	}
	t.Values["order_holds"], t.Values["largest_rise"] = holds, worst
	if c.seeds > 0 {
		t.Values["largest_gap"] = gap
	}
	t.Figures = append(t.Figures, masses)
	return t, nil
}

const (
	tiny  = 1e-5 // of a deterministic mass: above what minimisation leaves open
	slack = 2e-3 // of a trained mass: what the last learning rate leaves of noise
)

// significant is a mean difference where its interval excludes 0, else 0.
func significant(e Estimate) float64 {
	if e.Low > 0 || e.High < 0 {
		return e.Mean
	}
	return 0
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
