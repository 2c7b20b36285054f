package plots

import (
	"image/color"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Axis describes one axis of a figure.
type Axis struct {
	Label   string    // what is shown, with its unit in brackets
	Log     bool      // logarithmic; values that are not positive are left out
	Include []float64 // values that the axis must reach
	Pad     bool      // leave a little room at the ends
	// Least, where it is above 0, is the axis' lower edge, whatever the values are.
	// Bands end there, also those that reach below 0 on a logarithmic axis.
	Least float64
}

// Extent of charts and bars, in points.
const (
	chartWidth  = 500
	chartHeight = 290
	margin      = 8
)

// legendEntry is a line or a block of colour with a name.
type legendEntry struct {
	name   string
	color  color.Color
	dashes []vg.Length
	block  bool
}

// header draws title, y-axis label and legend along the top of c and returns
// what is left below.
func header(c draw.Canvas, title, yLabel string, legend []legendEntry) draw.Canvas {
	c = draw.Crop(c, margin, -margin, margin, -margin)
	if title != "" {
		c.FillText(top(textStyle(titleSize, ink.light, true)), vg.Point{X: c.Min.X, Y: c.Max.Y}, title)
		c.Max.Y -= titleSize * 1.6
	}
	style := top(textStyle(labelSize, ink.light, false))
	c.FillText(style, vg.Point{X: c.Min.X, Y: c.Max.Y}, yLabel)
	const sample, gap = 22, 14 // before a name, and between entries
	total := style.Width(yLabel)
	for _, e := range legend {
		total += sample + style.Width(e.name) + gap
	}
	entry := func(e legendEntry, x vg.Length) {
		c.FillText(style, vg.Point{X: x + sample, Y: c.Max.Y}, e.name)
		y := c.Max.Y - labelSize*0.62
		if e.block {
			fillRect(c, e.color, x+6, y-4, x+16, y+4)
		} else {
			c.StrokeLine2(draw.LineStyle{Color: e.color, Width: 1.8, Dashes: e.dashes}, x, y, x+17, y)
		}
	}
	if total <= c.Max.X-c.Min.X {
		x := c.Max.X
		for i := len(legend) - 1; i >= 0; i-- {
			x -= style.Width(legend[i].name) + sample
			entry(legend[i], x)
			x -= gap
		}
		c.Max.Y -= labelSize * 1.7
		return c
	}
	// Lines of their own, below the label.
	c.Max.Y -= labelSize * 1.5
	x := c.Min.X
	for _, e := range legend {
		width := style.Width(e.name) + sample
		if x > c.Min.X && x+width > c.Max.X {
			x = c.Min.X
			c.Max.Y -= labelSize * 1.4
		}
		entry(e, x)
		x += width + gap
	}
	c.Max.Y -= labelSize * 1.8
	return c
}

// axes draws ticks, grid and the x-axis label, and returns the data area.
func axes(c draw.Canvas, xLabel string, xTicks, yTicks []tick, x, y func(float64) float64) draw.Canvas {
	small := textStyle(tickSize, faint.light, false)
	var wide vg.Length
	for _, t := range yTicks {
		wide = max(wide, small.Width(t.label))
	}
	data := draw.Crop(c, wide+6, -4, tickSize*1.5+labelSize*1.5, -5)

	line := draw.LineStyle{Color: grid.light, Width: 0.7}
	for _, t := range yTicks {
		at := data.Y(y(t.value))
		data.StrokeLine2(line, data.Min.X, at, data.Max.X, at)
		right := small
		right.XAlign, right.YAlign = draw.XRight, draw.YCenter
		c.FillText(right, vg.Point{X: data.Min.X - 5, Y: at + small.FontExtents().Descent}, t.label)
	}
	centred := top(small)
	centred.XAlign = draw.XCenter
	for _, t := range xTicks {
		at := data.X(x(t.value))
		data.StrokeLine2(draw.LineStyle{Color: faint.light, Width: 0.7}, at, data.Min.Y, at, data.Min.Y-3)
		// The outermost labels stay inside the figure.
		half := centred.Width(t.label) / 2
		c.FillText(centred, vg.Point{X: min(at, c.Max.X-half), Y: data.Min.Y - 4}, t.label)
	}
	data.StrokeLine2(draw.LineStyle{Color: faint.light, Width: 0.8}, data.Min.X, data.Min.Y, data.Max.X, data.Min.Y)
	label := top(textStyle(labelSize, ink.light, false))
	label.XAlign = draw.XCenter
	c.FillText(label, vg.Point{X: data.Center().X, Y: data.Min.Y - 5 - tickSize*1.35}, xLabel)
	return data
}

// top aligns text by its upper edge.
func top(s text.Style) text.Style {
	s.YAlign = draw.YTop
	return s
}

func fillRect(c draw.Canvas, colour color.Color, x0, y0, x1, y1 vg.Length) {
	c.FillPolygon(colour, []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}})
}
