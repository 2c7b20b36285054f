package study

import (
	"context"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/study/fit"
)

// behaviour is a way to sample, as a job says it, and what it means for the
// expected update.
type behaviour struct {
	name  string
	apply func(s *job.Spec)
	// fit is where that leads.
	fit func(h *humps, d losses.Divergence, n fit.Normaliser) (fit.Fit, error)
}

// behaviours: a constant lag moves no fixed point, so what lag 50 is measured
// against is where on-policy training rests. Replay by reward draws half of
// each batch from the target itself, once every cell was found.
func behaviours() []behaviour {
	return []behaviour{
		{"lag 50", func(s *job.Spec) { s.Train.Lag = 50 }, func(h *humps, d losses.Divergence, n fit.Normaliser) (fit.Fit, error) {
			return h.Rest(d, fit.Behaviour{}, n, h.start())
		}},
		{"replay", func(s *job.Spec) {
			s.Replay.Kind, s.Replay.SamplesPerInsert, s.Replay.RewardExponent, s.Replay.Bytes = "reward", 2, 1, 1<<20
		}, func(h *humps, d losses.Divergence, n fit.Normaliser) (fit.Fit, error) {
			mu := make([]float64, len(h.class))
			for i, lp := range h.LogTarget() {
				mu[i] = math.Exp(lp)
			}
			return h.Rest(d, fit.Behaviour{Given: 0.5, Mu: mu}, n, h.start())
		}},
		{"uniform", func(s *job.Spec) { s.Sampling.Epsilon = schedule.Const(1) }, func(h *humps, d losses.Divergence, n fit.Normaliser) (fit.Fit, error) {
			mu := make([]float64, len(h.class))
			for i := range mu {
				mu[i] = 1 / float64(len(mu))
			}
			return h.MinLoss(d, mu, n)
		}},
	}
}

// normalisers are those that are compared, and what each is when batches are
// without end.
var normalisers = []struct {
	name string
	kind fit.Normaliser
}{{"exact", fit.Exact}, {"learned", fit.Free}, {"batch_optimal", fit.Free}}

// Behaviours measures training from stale, replayed and uniform data against
// the deterministic minimisers of E_μ[g], for three normalisers, and says where
// the order of on-policy training holds and where it is reversed.
func Behaviours(train Trainer) experiment.Computation {
	return experiment.Computation{
		About: "one Gaussian on two humps from lag-50, replayed and uniform data: mass of the smaller hump per alpha and normaliser, trained and by quadrature",
		Check: func(given map[string]any) error { _, err := decodeHumps(given); return err },
		Run: func(ctx context.Context, given map[string]any, seed uint64) (*experiment.Table, error) {
			c, err := decodeHumps(given)
			if err != nil {
				return nil, err
			}
			return c.behaviours(ctx, train, seed)
		},
		Conclude: concludeBehaviours,
	}
}

var behaviourColumns = []string{"behaviour", "normaliser", "separation", "alpha", "fit_mass", "fit_mean", "fit_std", "fit_c", "trained_mass", "low", "high", "seeds", "diverged"}

// concludeBehaviours says of every behaviour and normaliser where the order holds.
func concludeBehaviours(t *experiment.Table) {
	t.Notes, t.Values = nil, map[string]float64{"order_holds": 0, "order_reversed": 0, "order_mixed": 0}
	for _, s := range sweeps(t, func(row map[string]any) string {
		return fmt.Sprintf("%v, %v, separation %v: ", row["behaviour"], row["normaliser"], row["separation"])
	}) {
		fits := along(s.alphas, s.fits, tiny)
		t.Notes = append(t.Notes, s.where+fits.say("the deterministic smaller mass"))
		switch {
		case fits.mixed() || fits.unknown > 0: // no order can be told of all
			t.Values["order_mixed"]++
		case fits.rise > 0:
			t.Values["order_reversed"]++
		case fits.fall > 0:
			t.Values["order_holds"]++
		}
		if s.seeds {
			t.Notes = append(t.Notes, s.where+along(s.alphas, s.means, slack).say("the trained smaller mass"))
		}
		if gap := s.gap(); gap > 0 {
			t.Values["largest_gap"] = max(t.Values["largest_gap"], gap)
		}
	}
}

func (c *humpsConfig) behaviours(ctx context.Context, train Trainer, seed uint64) (*experiment.Table, error) {
	t := &experiment.Table{Columns: behaviourColumns}
	type cell struct {
		alpha   float64
		f       fit.Fit
		mass    float64 // NaN where there is no fit
		trained []float64
		hit     int
	}
	type line struct {
		behaviour, normaliser string
		separation            float64
		logZ                  float64
		cells                 []*cell
	}
	var lines []*line
	var tasks []task
	for _, separation := range c.separations {
		h, err := newHumps(c.env(separation))
		if err != nil {
			return nil, err
		}
		for _, b := range behaviours() {
			known := map[fit.Normaliser][]fit.Fit{}
			for _, n := range normalisers {
				l := &line{b.name, n.name, separation, h.LogZ(), nil}
				lines = append(lines, l)
				for i, alpha := range c.alphas {
					if err := ctx.Err(); err != nil {
						return nil, err
					}
					cl := &cell{alpha: alpha, mass: math.NaN(), trained: make([]float64, c.seeds)}
					l.cells = append(l.cells, cl)
					if fits := known[n.kind]; len(fits) > i {
						cl.f = fits[i]
					} else {
						d, err := divergence(alpha)
						if err != nil {
							return nil, err
						}
						if cl.f, err = b.fit(h, d, n.kind); err != nil {
							cl.f = fit.Fit{} // published as having none
						}
						known[n.kind] = append(fits, cl.f)
					}
					if cl.f.Theta != nil {
						cl.mass = h.smallerOf(cl.f)
					}
					for k := range c.seeds {
						spec := c.job(separation, alpha, n.name, seed+uint64(k))
						b.apply(spec)
						tasks = append(tasks, task{spec, func(logModel []float64) {
							if cl.trained[k] = math.NaN(); logModel != nil {
								cl.trained[k] = h.smaller(logModel)
							} else {
								cl.hit++
							}
						}})
					}
				}
			}
		}
	}
	if err := trainAll(ctx, train, tasks); err != nil {
		return nil, err
	}
	figures := map[string]*experiment.Figure{}
	for _, l := range lines {
		reference := experiment.Series{Reference: true}
		trained := experiment.Series{Name: fmt.Sprintf("%s, separation %v", l.normaliser, l.separation)}
		for _, cl := range l.cells {
			e := NewEstimate(cl.trained)
			mean, std := any(nil), any(nil)
			shift := any(nil)
			if cl.f.Theta != nil {
				mean, std, shift = number(cl.f.Mean()[0]), number(cl.f.Std()[0]), number(cl.f.C)
				reference.X, reference.Y = append(reference.X, cl.alpha), append(reference.Y, cl.mass)
			}
			t.Rows = append(t.Rows, []any{l.behaviour, l.normaliser, l.separation, cl.alpha, number(cl.mass), mean, std, shift,
				number(e.Mean), number(e.Low), number(e.High), float64(e.N), float64(cl.hit)})
			if e.N > 1 {
				trained.X, trained.Y = append(trained.X, cl.alpha), append(trained.Y, e.Mean)
				trained.Low, trained.High = append(trained.Low, e.Low), append(trained.High, e.High)
			}
		}
		f := figures[l.behaviour]
		if f == nil {
			f = &experiment.Figure{Title: "Mass of the smaller hump: " + l.behaviour, X: "alpha", Y: "mass of the smaller hump",
				Caption: "Solid with 95 % intervals over seeds: trained. Dashed: by quadrature."}
			figures[l.behaviour] = f
		}
		if l.normaliser != "batch_optimal" && len(reference.X) > 0 { // learned has the same
			f.Series = append(f.Series, reference)
		}
		if len(trained.X) > 0 {
			f.Series = append(f.Series, trained)
		}
	}
	for _, b := range behaviours() {
		if f := figures[b.name]; f != nil {
			t.Figures = append(t.Figures, *f)
		}
	}
	concludeBehaviours(t)
	return t, nil
}
