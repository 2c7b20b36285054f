package report

import (
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/internal/plots"
)

// figure compares target and model, as maps for grids, otherwise as curves.
func (d *Distribution) figure() figure {
	if d.Rows > 1 && d.Cols > 1 {
		return d.maps()
	}
	return d.curves()
}

func (d *Distribution) maps() figure {
	top, low := 0.0, math.Inf(1)
	worst := 0.0
	diff := make([]float64, len(d.Target))
	for i, p := range d.Target {
		top = max(top, p, d.Model[i])
		if p > 0 {
			low = min(low, p)
		}
		diff[i] = d.Model[i] - p
		worst = max(worst, math.Abs(diff[i]))
	}
	if top == 0 {
		top = 1
	}
	if worst == 0 {
		worst = top
	}
	// Rewards of different orders need a logarithmic scale to be seen at all.
	log := top/low > 50
	lo := 0.0
	if log {
		lo = max(low/2, top*1e-6)
	}
	return figure{file: "distribution", title: "Learned against exact distribution", wide: true,
		caption: "Probability of each object under the target and under the model, and their difference: blue where the model gives too little, orange where too much.",
		plot: plots.Heat{Title: "Learned against exact distribution", Rows: d.Rows, Cols: d.Cols, XLabel: d.ColLabel, YLabel: d.RowLabel,
			Panels: []plots.Panel{
				{Title: "target", Values: d.Target, Lo: lo, Hi: top, Log: log},
				{Title: "model", Values: d.Model, Lo: lo, Hi: top, Log: log},
				{Title: "model − target", Values: diff, Lo: -worst, Hi: worst, Diverging: true},
			}},
	}
}

func (d *Distribution) curves() figure {
	order := make([]int, len(d.Target))
	for i := range order {
		order[i] = i
	}
	// Among equal targets the model's values fall too, so that a plateau shows
	// their spread.
	slices.SortStableFunc(order, func(a, b int) int {
		return compareDown(d.Target[a], d.Target[b], d.Model[a], d.Model[b])
	})
	rank, target, model := make([]float64, len(order)), make([]float64, len(order)), make([]float64, len(order))
	for i, o := range order {
		rank[i], target[i], model[i] = float64(i+1), d.Target[o], d.Model[o]
	}
	return figure{file: "distribution", title: "Learned against exact distribution", wide: true,
		caption: "All objects, sorted by falling target probability; among equal targets by the model's.",
		plot: plots.Chart{Title: "Learned against exact distribution",
			X: plots.Axis{Label: "rank of the object", Log: len(order) > 50},
			Y: plots.Axis{Label: "probability of an object", Log: true, Pad: true},
			Series: []plots.Series{
				{Name: "model", X: rank, Y: model},
				{Name: "target", X: rank, Y: target, Colour: 2},
			}},
	}
}

func compareDown(a, b, thenA, thenB float64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	case thenA > thenB:
		return -1
	case thenA < thenB:
		return 1
	}
	return 0
}
