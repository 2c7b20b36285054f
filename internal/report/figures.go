package report

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/plots"
	"github.com/driftmesh/driftmesh/internal/runs"
)

// figure is one plot of the page with its file name, without extension.
type figure struct {
	file    string
	title   string
	caption string
	plot    plots.Figure
	wide    bool // takes the page's whole width
}

// figures lists the plots that the data allows, in the order of the page.
func (d *Data) figures() ([]figure, error) {
	var out []figure
	if d.Objects != nil && len(d.Objects.Target) > 0 {
		if err := d.Objects.check(); err != nil {
			return nil, err
		}
		out = append(out, d.Objects.figure())
	}
	for _, f := range []func() (figure, bool){
		d.tvOverUpdates, d.tvOverTrajectories, d.tvOverTime, d.loss, d.logZ, d.bounds, d.modes, d.topK, d.correlation, d.delta, d.lag,
	} {
		if fig, ok := f(); ok {
			out = append(out, fig)
		}
	}
	return out, nil
}

// column extracts one quantity per row; rows that lack it are left out.
func column(rows []runs.Row, x func(runs.Row) float64, y func(runs.Row) *runs.Float) (xs, ys []float64) {
	for _, r := range rows {
		if v, ok := runs.Known(y(r)); ok {
			xs, ys = append(xs, x(r)), append(ys, v)
		}
	}
	return xs, ys
}

func updates(r runs.Row) float64      { return float64(r.Version) }
func trajectories(r runs.Row) float64 { return float64(r.Trajectories) }
func tv(r runs.Row) *runs.Float       { return r.TV }

func (d *Data) tvOverUpdates() (figure, bool) {
	xs, ys := column(d.Rows, updates, tv)
	return tvFigure("tv_updates", "Total variation over updates", "optimiser updates", xs, ys)
}

func (d *Data) tvOverTrajectories() (figure, bool) {
	xs, ys := column(d.Rows, trajectories, tv)
	return tvFigure("tv_trajectories", "Total variation over trajectories", "trajectories trained on", xs, ys)
}

func (d *Data) tvOverTime() (figure, bool) {
	seconds := map[int64]float64{}
	for _, t := range d.Timings {
		seconds[t.Version] = float64(t.Seconds)
	}
	xs, ys := column(d.Rows, func(r runs.Row) float64 {
		if s, ok := seconds[r.Version]; ok {
			return s
		}
		return math.NaN()
	}, tv)
	return tvFigure("tv_time", "Total variation over time", "training time, evaluations left out [s]", xs, ys)
}

func tvFigure(file, title, xLabel string, xs, ys []float64) (figure, bool) {
	return figure{file: file, title: title,
		caption: "Exact distance ½ Σ |target − model| over all objects; 0 is perfect.",
		plot: plots.Chart{Title: title, X: plots.Axis{Label: xLabel, Include: []float64{0}},
			Y:      plots.Axis{Label: "total variation [0–1]", Log: wide(ys), Pad: true, Include: unlessLog(wide(ys), 0)},
			Series: []plots.Series{{Name: "TV", X: xs, Y: ys}}},
	}, len(xs) > 0
}

// wide says whether positive values span so much that a logarithmic axis
// shows them better.
func wide(ys []float64) bool {
	lo, hi := math.Inf(1), 0.0
	for _, y := range ys {
		if y > 0 {
			lo, hi = min(lo, y), max(hi, y)
		}
	}
	return hi/lo > 8
}

func unlessLog(log bool, v float64) []float64 {
	if log {
		return nil
	}
	return []float64{v}
}

func (d *Data) loss() (figure, bool) {
	xs, ys := column(d.Rows, updates, func(r runs.Row) *runs.Float { return &r.Loss })
	log := wide(ys)
	return figure{file: "loss", title: "Loss", caption: "Mean of g(δ) over the trajectories since the row before.",
		plot: plots.Chart{Title: "Loss", X: plots.Axis{Label: "optimiser updates", Include: []float64{0}},
			Y:      plots.Axis{Label: "mean g(δ)", Log: log, Pad: true, Include: unlessLog(log, 0)},
			Series: []plots.Series{{Name: "loss", X: xs, Y: ys}}},
	}, len(xs) > 0
}

func (d *Data) logZ() (figure, bool) {
	xs, ys := column(d.Rows, updates, func(r runs.Row) *runs.Float { return &r.LogZ })
	series := []plots.Series{{Name: "estimate", X: xs, Y: ys}}
	caption := "The reported estimate of log Z."
	if n := len(d.Rows); n > 0 && d.Rows[n-1].LogZEstimator != "" {
		caption = fmt.Sprintf("The estimate of log Z (%s).", d.Rows[n-1].LogZEstimator)
	}
	if ex, ey := column(d.Rows, updates, func(r runs.Row) *runs.Float { return r.LogZExact }); len(ex) > 0 {
		exact := ey[len(ey)-1]
		series = append(series, plots.Series{Name: "exact", Reference: true, X: []float64{0, xs0(xs)}, Y: []float64{exact, exact}})
		caption += fmt.Sprintf(" The dashed line is the exact value, %.4f.", exact)
	}
	if bx, by := column(d.Rows, updates, func(r runs.Row) *runs.Float { return r.ELBO }); len(bx) > 0 {
		series = append(series, plots.Series{Name: "ELBO", X: bx, Y: by})
		caption += " The ELBO is a lower bound in expectation, from on-policy trajectories."
	}
	return figure{file: "log_z", title: "log Z", caption: caption,
		plot: plots.Chart{Title: "log Z", X: plots.Axis{Label: "optimiser updates", Include: []float64{0}},
			Y: plots.Axis{Label: "log Z [nats]", Pad: true}, Series: series},
	}, len(xs) > 0
}

// xs0 is the last of the values, 1 when there is none.
func xs0(xs []float64) float64 {
	if len(xs) == 0 {
		return 1
	}
	return xs[len(xs)-1]
}

func (d *Data) modes() (figure, bool) {
	var fx, found, hx, held []float64
	total := 0
	for _, r := range d.Rows {
		if r.ModesFound != nil {
			fx, found = append(fx, trajectories(r)), append(found, float64(*r.ModesFound))
		}
		if r.ModesHeld != nil {
			hx, held = append(hx, trajectories(r)), append(held, float64(*r.ModesHeld))
		}
		if r.ModesTotal != nil {
			total = *r.ModesTotal
		}
	}
	series := []plots.Series{{Name: "found", X: fx, Y: found, Steps: true}}
	if len(hx) > 0 {
		series = append(series, plots.Series{Name: "held", X: hx, Y: held, Steps: true})
	}
	series = append(series, plots.Series{Name: "all", Reference: true, X: []float64{0, xs0(fx)}, Y: []float64{float64(total), float64(total)}})
	return figure{file: "modes", title: "Modes over trajectories",
		caption: "Found: hit by a training trajectory so far. Held: the model has at least half of the target's mass there.",
		plot: plots.Chart{Title: "Modes over trajectories", X: plots.Axis{Label: "trajectories trained on", Include: []float64{0}},
			Y: plots.Axis{Label: "modes", Include: []float64{0}, Pad: true}, Series: series},
	}, len(fx) > 0 && total > 0
}

func (d *Data) delta() (figure, bool) {
	var xs []float64
	var q [5][]float64
	for _, r := range d.Rows {
		if r.DeltaQ == [5]runs.Float{} {
			continue // the row at version 0 has no trajectories behind it
		}
		xs = append(xs, updates(r))
		for i, v := range r.DeltaQ {
			q[i] = append(q[i], float64(v))
		}
	}
	return figure{file: "delta", title: "Residuals δ",
		caption: "δ > 0: the model gives a trajectory too much mass; δ < 0: too little.",
		plot: plots.Chart{Title: "Residuals δ of training trajectories", X: plots.Axis{Label: "optimiser updates", Include: []float64{0}},
			Y: plots.Axis{Label: "δ [nats]", Pad: true}, Series: []plots.Series{
				{Name: "5–95 %", X: xs, Y: q[0], Upper: q[4], Colour: 6},
				{Name: "25–75 %", X: xs, Y: q[1], Upper: q[3], Colour: 1},
				{Name: "median", X: xs, Y: q[2], Colour: 1},
			}},
	}, len(xs) > 1
}
