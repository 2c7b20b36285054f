package plots

import (
	"fmt"
	"image"
	"math"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Heat shows matrices of equal extent side by side as heat maps. Row 0 is at
// the bottom, column 0 at the left.
type Heat struct {
	Title          string
	XLabel, YLabel string // of columns and rows
	Rows, Cols     int
	// X and Y, where they are set, are the coordinates at the two ends of the columns
	// and of the rows, which are numbered otherwise.
	X, Y   [2]float64
	Panels []Panel
}

// Panel is one matrix, row-major.
type Panel struct {
	Title  string
	Values []float64
	// Lo and Hi are the values of the colour scale's ends; values beyond take
	// the end's colour. With Log they are positive.
	Lo, Hi float64
	Log    bool
	// Diverging uses two hues that meet in the middle of the scale.
	Diverging bool
}

// Layout of heat maps, in points.
const (
	panelGap   = 26
	heatSide   = 150 // of the longer side of a matrix
	barHeight  = 8
	panelTop   = labelSize * 1.8
	panelUnder = tickSize*1.5 + labelSize*1.6 + 10 + barHeight + tickSize*1.6
	heatLeft   = 26
	cellPixels = 480 // raster width of the longer side: cells stay sharp when a viewer smooths
)

func (h Heat) extent() (w, ht vg.Length) {
	long := float64(max(h.Rows, h.Cols, 1))
	return vg.Length(heatSide * float64(h.Cols) / long), vg.Length(heatSide * float64(h.Rows) / long)
}

func (h Heat) size() (vg.Length, vg.Length) {
	w, ht := h.extent()
	n := vg.Length(max(1, len(h.Panels)))
	return 2*margin + heatLeft + n*w + (n-1)*panelGap + 12, 2*margin + titleSize*1.6 + panelTop + ht + panelUnder
}

func (h Heat) draw(canvas draw.Canvas, withTitle bool) error {
	c := draw.Crop(canvas, margin, -margin, margin, -margin)
	if withTitle {
		c.FillText(top(textStyle(titleSize, ink.light, true)), vg.Point{X: c.Min.X, Y: c.Max.Y}, h.Title)
	}
	c.Max.Y -= titleSize * 1.6
	w, ht := h.extent()
	for i, p := range h.Panels {
		if len(p.Values) != h.Rows*h.Cols {
			return fmt.Errorf("plot %q: panel %q has %d values for %d × %d cells", h.Title, p.Title, len(p.Values), h.Rows, h.Cols)
		}
		if !(p.Lo < p.Hi) || p.Log && p.Lo <= 0 {
			return fmt.Errorf("plot %q: panel %q has a colour scale from %g to %g", h.Title, p.Title, p.Lo, p.Hi)
		}
		left := c.Min.X + heatLeft + vg.Length(i)*(w+panelGap)
		area := vg.Rectangle{Min: vg.Point{X: left, Y: c.Max.Y - panelTop - ht}, Max: vg.Point{X: left + w, Y: c.Max.Y - panelTop}}
		h.panel(c, p, area, i == 0)
	}
	return nil
}

func (h Heat) panel(c draw.Canvas, p Panel, area vg.Rectangle, first bool) {
	c.FillText(top(textStyle(labelSize, ink.light, true)), vg.Point{X: area.Min.X, Y: area.Max.Y + panelTop}, p.Title)
	colours, s := p.colours()
	c.DrawImage(area, raster(h.Rows, h.Cols, func(row, col int) float64 {
		v := p.Values[row*h.Cols+col]
		if math.IsNaN(v) {
			return v
		}
		if p.Log {
			v = max(v, p.Lo) // zero has no logarithm
		}
		return s.at(v)
	}, colours))

	small := textStyle(tickSize, faint.light, false)
	under := top(small)
	under.XAlign = draw.XCenter
	for _, t := range cellTicks(h.Cols, h.X) {
		x := area.Min.X + area.Size().X*vg.Length(t.value)
		c.FillText(under, vg.Point{X: x, Y: area.Min.Y - 3}, t.label)
	}
	label := top(textStyle(labelSize, ink.light, false))
	label.XAlign = draw.XCenter
	below := area.Min.Y - 3 - tickSize*1.4
	c.FillText(label, vg.Point{X: (area.Min.X + area.Max.X) / 2, Y: below}, h.XLabel)
	if first {
		beside := small
		beside.XAlign, beside.YAlign = draw.XRight, draw.YCenter
		for _, t := range cellTicks(h.Rows, h.Y) {
			y := area.Min.Y + area.Size().Y*vg.Length(t.value)
			c.FillText(beside, vg.Point{X: area.Min.X - 4, Y: y + small.FontExtents().Descent}, t.label)
		}
		turned := textStyle(labelSize, ink.light, false)
		turned.Rotation, turned.XAlign = math.Pi/2, draw.XCenter
		c.FillText(turned, vg.Point{X: c.Min.X + labelSize - 1, Y: (area.Min.Y + area.Max.Y) / 2}, h.YLabel)
	}

	bar := vg.Rectangle{Max: vg.Point{X: area.Max.X, Y: below - labelSize*1.6 - 4}}
	bar.Min = vg.Point{X: area.Min.X, Y: bar.Max.Y - barHeight}
	const shades = 256
	c.DrawImage(bar, raster(1, shades, func(_, col int) float64 { return float64(col) / (shades - 1) }, colours))
	for _, t := range s.ticks(3) {
		at := bar.Min.X + bar.Size().X*vg.Length(s.at(t.value))
		half := small.Width(t.label) / 2
		c.FillText(under, vg.Point{X: min(max(at, bar.Min.X+half-8), bar.Max.X-half+8), Y: bar.Min.Y - 2}, t.label)
	}
}

func (p Panel) colours() (colourMap, scale) {
	m := sequential
	if p.Diverging {
		m = diverging
	}
	return m, scale{lo: p.Lo, hi: p.Hi, log: p.Log}
}

// cellTicks are labels by their places in [0, 1]: of coordinates, or of the cells of
// an axis, at most nine of them.
func cellTicks(n int, ends [2]float64) (out []tick) {
	if s := (scale{lo: ends[0], hi: ends[1]}); s.lo < s.hi {
		for _, t := range s.ticks(5) {
			out = append(out, tick{value: s.at(t.value), label: t.label})
		}
		return out
	}
	step := 1
	for _, s := range []int{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000} {
		if step = s; n <= 9*s {
			break
		}
	}
	for i := 0; i < n; i += step {
		out = append(out, tick{value: (float64(i) + 0.5) / float64(n), label: fmt.Sprint(i)})
	}
	return out
}

// raster paints cells as blocks of pixels, row 0 at the bottom.
func raster(rows, cols int, value func(row, col int) float64, m colourMap) image.Image {
	block := max(1, cellPixels/max(rows, cols))
	img := image.NewNRGBA(image.Rect(0, 0, cols*block, rows*block))
	for row := range rows {
		for col := range cols {
			colour := m.at(value(row, col))
			for y := (rows - 1 - row) * block; y < (rows-row)*block; y++ {
				for x := col * block; x < (col+1)*block; x++ {
					img.SetNRGBA(x, y, colour)
				}
			}
		}
	}
	return img
}
