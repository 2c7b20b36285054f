package report

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/plots"
	"github.com/driftmesh/driftmesh/internal/runs"
)

// bounds shows what evaluations estimated of log Z from samples.
func (d *Data) bounds() (figure, bool) {
	var series []plots.Series
	add := func(name string, y func(runs.Row) *runs.Float) {
		if xs, ys := column(d.Rows, updates, y); len(xs) > 0 {
			series = append(series, plots.Series{Name: name, X: xs, Y: ys})
		}
	}
	add("ELBO", func(r runs.Row) *runs.Float { return r.EvalELBO })
	add("importance sampling", func(r runs.Row) *runs.Float { return r.EvalLogZ })
	add("EUBO", func(r runs.Row) *runs.Float { return r.EvalEUBO })
	if len(series) == 0 {
		return figure{}, false
	}
	if exact, ok := latest(d.Rows, func(r runs.Row) *runs.Float { return r.LogZExact }); ok {
		series = append(series, plots.Series{Name: "exact", Reference: true, X: []float64{0, float64(d.Rows[len(d.Rows)-1].Version)}, Y: []float64{exact, exact}})
	}
	return figure{file: "bounds", title: "Bounds of log Z",
		caption: "Estimates from samples of P_F: the ELBO is below log Z by KL(model‖target) over trajectories, the EUBO above it by KL(target‖model).",
		plot: plots.Chart{Title: "Bounds of log Z", X: plots.Axis{Label: "optimiser updates", Include: []float64{0}},
			Y: plots.Axis{Label: "log Z [nats]", Pad: true}, Series: series},
	}, true
}

// topK shows reward and diversity of the best samples.
func (d *Data) topK() (figure, bool) {
	xs, ys := column(d.Rows, trajectories, func(r runs.Row) *runs.Float { return r.TopKLogReward })
	caption := "Mean log R of the best distinct samples of each evaluation."
	if v, ok := latest(d.Rows, func(r runs.Row) *runs.Float { return r.TopKDiversity }); ok {
		caption += fmt.Sprintf(" The mean distance of two of the last is %s.", significant(v))
	}
	return figure{file: "top_k", title: "Best of the samples", caption: caption,
		plot: plots.Chart{Title: "Best of the samples", X: plots.Axis{Label: "trajectories trained on", Include: []float64{0}},
			Y: plots.Axis{Label: "mean log R", Pad: true}, Series: []plots.Series{{Name: "best", X: xs, Y: ys}}},
	}, len(xs) > 0
}

// correlation shows how log-probability follows log-reward on the test set.
func (d *Data) correlation() (figure, bool) {
	xs, spearman := column(d.Rows, trajectories, func(r runs.Row) *runs.Float { return r.TestSpearman })
	px, pearson := column(d.Rows, trajectories, func(r runs.Row) *runs.Float { return r.TestPearson })
	return figure{file: "correlation", title: "Correlation on the test set",
		caption: "Correlation of log-probability, by backward importance sampling, and log-reward over the test objects; 1 is perfect.",
		plot: plots.Chart{Title: "Correlation on the test set", X: plots.Axis{Label: "trajectories trained on", Include: []float64{0}},
			Y: plots.Axis{Label: "correlation", Include: []float64{1}, Pad: true}, Series: []plots.Series{
				{Name: "Spearman", X: xs, Y: spearman}, {Name: "Pearson", X: px, Y: pearson},
			}},
	}, len(xs) > 0
}
