package experiment

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/plots"
)

// figure is one plot of the report.
type figure struct {
	file, title, caption string
	plot                 plots.Figure
}

// Bounds that keep a report readable; the tables have everything.
const (
	linesPerChart = 5  // beside the baseline
	maxFigures    = 60 // of a part
	rowsPerChart  = 40
)

// figures of a part: its curves, then its times, or what a computation drew.
func (r *Results) figures(p *Part) []figure {
	var out []figure
	if p.Kind == Train {
		for _, panel := range p.panels() {
			for _, m := range p.Figures {
				out = append(out, r.curveFigures(p, panel, m)...)
			}
		}
		for _, t := range p.Times {
			out = append(out, r.timeFigures(p, t)...)
		}
	}
	for _, rec := range r.Records {
		if rec.Part != p.Name || rec.Table == nil {
			continue
		}
		for _, f := range rec.Table.Figures {
			out = append(out, f.draw(rec, len(p.Seeds) > 1))
		}
	}
	if len(out) > maxFigures {
		out = out[:maxFigures]
	}
	for i := range out {
		out[i].file = fmt.Sprintf("%s-%02d", p.Name, i+1)
	}
	return out
}

func (f Figure) draw(rec *Record, seeds bool) figure {
	c := plots.Chart{Title: f.Title, X: plots.Axis{Label: f.X, Log: f.LogX}, Y: plots.Axis{Label: f.Y, Log: f.LogY, Pad: true}}
	colour := 0
	for _, s := range f.Series {
		line := plots.Series{Name: s.Name, X: s.X, Y: s.Y, Reference: s.Reference}
		if !s.Reference {
			colour = colour%6 + 1
			line.Colour = colour
			if s.Low != nil {
				c.Series = append(c.Series, plots.Series{X: s.X, Y: s.Low, Upper: s.High, Colour: colour})
			}
		}
		c.Series = append(c.Series, line)
	}
	title := f.Title
	if len(rec.At) > 0 {
		title += " (" + rec.Cell + ")"
	}
	if seeds {
		title += fmt.Sprintf(", seed %d", rec.Seed)
	}
	return figure{title: title, caption: f.Caption, plot: c}
}

// panel is a group of cells that differ on one axis only.
type panel struct {
	name  string
	cells []*Cell
}

// lineAxis is the axis whose values share a chart: that of the baseline, or the first.
func (p *Part) lineAxis() int {
	if len(p.Baseline) > 0 {
		return max(0, slices.Index(p.Axes, p.Baseline[0].Axis))
	}
	return 0
}

func (p *Part) panels() []panel {
	at := p.lineAxis()
	var out []panel
	for _, c := range p.Cells {
		if c.Refused != "" {
			continue
		}
		var rest []string
		for i, v := range c.Values {
			if i != at {
				rest = append(rest, p.label(i)+"="+v.Text)
			}
		}
		name := strings.Join(rest, ", ")
		i := slices.IndexFunc(out, func(q panel) bool { return q.name == name })
		if i < 0 {
			i = len(out)
			out = append(out, panel{name: name})
		}
		out[i].cells = append(out[i].cells, c)
	}
	return out
}

// lineName is what a cell is called among those of its panel.
func (p *Part) lineName(c *Cell) string {
	if len(c.Values) == 0 {
		return c.Name
	}
	return c.Values[p.lineAxis()].Text
}

// short names a cell by its values alone.
func (c *Cell) short() string {
	values := make([]string, len(c.Values))
	for i, v := range c.Values {
		values[i] = v.Text
	}
	return strings.Join(values, ", ")
}

// groups cuts a panel into charts of a few lines, the baseline in each.
func (p *Part) groups(cells []*Cell) [][]*Cell {
	var base []*Cell
	var others []*Cell
	for _, c := range cells {
		if len(p.Baseline) > 0 && c.has(p.Baseline) {
			base = append(base, c)
		} else {
			others = append(others, c)
		}
	}
	if len(others) == 0 {
		return [][]*Cell{base}
	}
	var out [][]*Cell
	for chunk := range slices.Chunk(others, linesPerChart) {
		out = append(out, append(slices.Clone(base), chunk...))
	}
	return out
}

// lineColour is the colour of a chart's n-th line, the baseline being the first.
func lineColour(n int) int { return n%6 + 1 }

// colours are those that the cells have in charts of curves.
func (p *Part) colours() map[*Cell]int {
	out := map[*Cell]int{}
	for _, q := range p.panels() {
		for _, cells := range p.groups(q.cells) {
			for i, c := range cells {
				out[c] = lineColour(i)
			}
		}
	}
	return out
}

func titled(p *Part, what, where string) string {
	out := p.Name + ": " + what
	if where != "" {
		out += ", " + where
	}
	return out
}

func (r *Results) curveFigures(p *Part, q panel, metric string) []figure {
	var out []figure
	groups := p.groups(q.cells)
	for n, cells := range groups {
		var series []plots.Series
		var all, lows []float64
		for i, c := range cells {
			xs, mean, low, high := r.curve(p, c, metric)
			if len(xs) == 0 {
				continue
			}
			colour := lineColour(i)
			all, lows = append(all, mean...), append(lows, low...)
			series = append(series,
				plots.Series{X: xs, Y: low, Upper: high, Colour: colour},
				plots.Series{Name: p.lineName(c), X: xs, Y: mean, Colour: colour})
		}
		if len(series) == 0 {
			continue
		}
		caption := fmt.Sprintf("Mean over the seeds that have not diverged, with its 95 %% band (Student's t; %d seeds).", len(p.Seeds))
		y := plots.Axis{Label: metric, Log: widely(all), Pad: true}
		if !y.Log {
			y.Include = []float64{0}
		} else if edge := slices.Min(all) / 2; slices.Min(lows) < edge {
			// An interval may reach to 0 and below, which is nowhere on such an axis.
			y.Least = edge
			caption += " Bands that go on below the axis, which is logarithmic, end at its lower edge."
		}
		title := titled(p, metric, q.name)
		if len(groups) > 1 {
			title += fmt.Sprintf(" (%d of %d)", n+1, len(groups))
		}
		out = append(out, figure{title: title, caption: caption,
			plot: plots.Chart{Title: title, X: plots.Axis{Label: "optimiser updates", Include: []float64{0}}, Y: y, Series: series}})
	}
	return out
}

// widely says whether positive values span so much that a logarithmic axis
// shows them better.
func widely(ys []float64) bool {
	lo, hi := math.Inf(1), 0.0
	for _, y := range ys {
		if y <= 0 {
			return false
		}
		lo, hi = min(lo, y), max(hi, y)
	}
	return hi/lo > 8
}

// curve is a metric's mean over seeds at every evaluation that all seeds have, and
// its interval.
func (r *Results) curve(p *Part, c *Cell, metric string) (xs, mean, low, high []float64) {
	at := map[float64][]float64{}
	seeds := 0
	for _, rec := range r.of(p.Name, c.Name) {
		if rec.Status != Finished {
			continue
		}
		seeds++
		for _, pt := range rec.Points {
			if x, ok := pt.Values[metric]; ok {
				at[pt.Updates] = append(at[pt.Updates], x)
			}
		}
	}
	for x, values := range at {
		if len(values) == seeds {
			xs = append(xs, x)
		}
	}
	slices.Sort(xs)
	for _, x := range xs {
		i := MeanOf(at[x])
		mean = append(mean, i.Mean)
		if !i.Known() {
			i.Low, i.High = i.Mean, i.Mean
		}
		low, high = append(low, i.Low), append(high, i.High)
	}
	return xs, mean, low, high
}

func (r *Results) timeFigures(p *Part, t Time) []figure {
	var out []figure
	var rows []plots.IntervalRow
	longest := 0.0
	colours := p.colours()
	for _, c := range p.Cells {
		if c.Refused != "" {
			continue
		}
		longest = max(longest, c.Budget)
		s := r.summarise(p, c.Name, t.Name)
		row := plots.IntervalRow{Label: c.short(), Colour: colours[c], Low: math.NaN(), Mid: s.Median, High: math.NaN(), Note: fmt.Sprintf("%d of %d", s.N, s.Done-s.Missing)}
		for _, rec := range r.of(p.Name, c.Name) {
			if x, ok := rec.Values[t.Name]; ok {
				row.Points = append(row.Points, x)
			}
		}
		if len(row.Points) > 1 {
			row.Low, row.High = slices.Min(row.Points), slices.Max(row.Points)
		}
		rows = append(rows, row)
	}
	names := make([]string, len(p.Axes))
	for i := range p.Axes {
		names[i] = p.label(i)
	}
	what := t.Name
	if len(names) > 0 {
		what += " by " + strings.Join(names, ", ")
	}
	n := 0
	for chunk := range slices.Chunk(rows, rowsPerChart) {
		n++
		title := titled(p, what, "")
		if len(rows) > rowsPerChart {
			title += fmt.Sprintf(" (%d)", n)
		}
		out = append(out, figure{title: title,
			caption: fmt.Sprintf("Updates until %s, %d evaluations running: every seed, their range, and the median (a seed that never got there counts as later than any). At the right: how many got there.", t.When, t.Runs),
			plot:    plots.Intervals{Title: title, X: plots.Axis{Label: "optimiser updates", Include: []float64{0, longest}}, Rows: chunk}})
	}
	return out
}
