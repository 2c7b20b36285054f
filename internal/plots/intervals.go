package plots

import (
	"image/color"
	"math"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Intervals shows one value with an interval per category, one below the other.
type Intervals struct {
	Title string
	X     Axis
	Rows  []IntervalRow
	// Line is drawn across all rows where it is set: a value to compare with.
	Line *float64
}

// IntervalRow is one category. What is not finite is not drawn.
type IntervalRow struct {
	Label          string
	Low, Mid, High float64
	Points         []float64 // single values, small
	Note           string    // at the right end, such as "3 of 5"
	Colour         int       // of the palette, 1 to 6; 0 is the first
}

const intervalRow = 17 // height of a row, in points

func (v Intervals) size() (vg.Length, vg.Length) {
	return chartWidth, vg.Length(86 + intervalRow*max(1, len(v.Rows)))
}

func (v Intervals) draw(canvas draw.Canvas, withTitle bool) error {
	var all [][]float64
	var labels []tick
	small := textStyle(tickSize, faint.light, false)
	var note vg.Length
	for i, r := range v.Rows {
		all = append(all, []float64{r.Low, r.Mid, r.High}, r.Points)
		labels = append(labels, tick{float64(i), r.Label})
		note = max(note, small.Width(r.Note))
	}
	if v.Line != nil {
		all = append(all, []float64{*v.Line})
	}
	x := newScale(v.X, all...)
	n := float64(max(1, len(v.Rows)))
	row := func(i float64) float64 { return 1 - (i+0.5)/n }
	title := ""
	if withTitle {
		title = v.Title
	}
	inner := header(canvas, title, "", nil)
	inner.Max.X -= note + 4
	data := axes(inner, v.X.Label, x.ticks(6), labels, x.at, row)
	if v.Line != nil && usable(*v.Line, v.X.Log) {
		at := data.X(x.at(*v.Line))
		data.StrokeLine2(draw.LineStyle{Color: faint.light, Width: 1, Dashes: referenceDashes}, at, data.Min.Y, at, data.Max.Y)
	}
	for i, r := range v.Rows {
		colour := seriesTones[max(0, r.Colour-1)%len(seriesTones)].light
		y := data.Y(row(float64(i)))
		if usable(r.Low, v.X.Log) && usable(r.High, v.X.Log) {
			data.StrokeLine2(draw.LineStyle{Color: colour, Width: 2}, data.X(x.at(r.Low)), y, data.X(x.at(r.High)), y)
		}
		for _, p := range r.Points {
			if usable(p, v.X.Log) {
				dot(data, translucent(colour), data.X(x.at(p)), y, 2)
			}
		}
		if usable(r.Mid, v.X.Log) {
			dot(data, colour, data.X(x.at(r.Mid)), y, 3.2)
		}
		if r.Note != "" {
			left := small
			left.YAlign = draw.YCenter
			canvas.FillText(left, vg.Point{X: data.Max.X + 8, Y: y + small.FontExtents().Descent}, r.Note)
		}
	}
	return nil
}

func dot(c draw.Canvas, colour color.Color, x, y, radius vg.Length) {
	var path vg.Path
	path.Move(vg.Point{X: x + radius, Y: y})
	path.Arc(vg.Point{X: x, Y: y}, radius, 0, 2*math.Pi)
	path.Close()
	c.SetColor(colour)
	c.Fill(path)
}
