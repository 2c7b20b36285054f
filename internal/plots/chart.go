package plots

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Chart shows series of points as lines over two axes.
type Chart struct {
	Title  string
	X, Y   Axis
	Series []Series
}

// Series is one line, or a band between two lines. X need not be sorted, but
// is walked in order. Points that are not finite, or not positive on a
// logarithmic axis, break the line.
type Series struct {
	Name string
	X, Y []float64 // equal lengths
	// Upper, when set, makes a band between Y and Upper; of Y's length.
	Upper []float64
	// Reference draws the series dashed and in grey: something to compare with.
	Reference bool
	// Steps holds every value until the next point.
	Steps bool
	// Colour picks a colour of the palette, 1 to 6, 0 the next one; a band
	// usually shares that of its line.
	Colour int
}

func (c Chart) size() (vg.Length, vg.Length) { return chartWidth, chartHeight }

func (c Chart) draw(canvas draw.Canvas, withTitle bool) error {
	var xs, ys [][]float64
	for i, s := range c.Series {
		if len(s.X) != len(s.Y) || s.Upper != nil && len(s.Upper) != len(s.Y) {
			return fmt.Errorf("plot %q: series %d (%s) has %d x, %d y and %d upper values", c.Title, i, s.Name, len(s.X), len(s.Y), len(s.Upper))
		}
		xs, ys = append(xs, s.X), append(ys, s.Y, s.Upper)
	}
	x, y := newScale(c.X, xs...), newScale(c.Y, ys...)
	var legend []legendEntry
	colours := c.colours()
	for i, s := range c.Series {
		if s.Name != "" {
			e := legendEntry{name: s.Name, color: colours[i], block: s.Upper != nil}
			if s.Reference {
				e.dashes = referenceDashes
			}
			if e.block {
				e.color = translucent(colours[i])
			}
			legend = append(legend, e)
		}
	}
	if len(legend) == 1 && len(c.Series) == 1 {
		legend = nil // the axis says it
	}
	title := ""
	if withTitle {
		title = c.Title
	}
	data := axes(header(canvas, title, c.Y.Label, legend), c.X.Label, x.ticks(7), y.ticks(5), x.at, y.at)
	for _, references := range []bool{true, false} { // references lie below
		for i, s := range c.Series {
			if s.Reference != references {
				continue
			}
			for _, run := range s.runs(c.X.Log, c.Y) {
				drawRun(data, s, thin(run, x), colours[i], x, y)
			}
		}
	}
	return nil
}

var referenceDashes = []vg.Length{4, 3}

func (c Chart) colours() []color.NRGBA {
	out := make([]color.NRGBA, len(c.Series))
	next := 0
	for i, s := range c.Series {
		switch {
		case s.Reference:
			out[i] = faint.light
		case s.Colour > 0:
			out[i] = seriesTones[(s.Colour-1)%len(seriesTones)].light
		default:
			out[i] = seriesTones[next%len(seriesTones)].light
			next++
		}
	}
	return out
}

func translucent(c color.NRGBA) color.NRGBA {
	c.A = 0x48
	return c
}

// point is one place of a series; upper equals y for lines.
type point struct{ x, y, upper float64 }

// runs cuts the series where a point has no place on the axes, and bands at the
// lower edge that an axis is given.
func (s Series) runs(logX bool, y Axis) [][]point {
	var out [][]point
	var run []point
	for i := range s.X {
		p := point{s.X[i], s.Y[i], s.Y[i]}
		if s.Upper != nil {
			p.upper = s.Upper[i]
			if y.Least > 0 {
				p.y, p.upper = max(p.y, y.Least), max(p.upper, y.Least)
			}
		}
		if usable(p.x, logX) && usable(p.y, y.Log) && usable(p.upper, y.Log) {
			run = append(run, p)
			continue
		}
		if len(run) > 0 {
			out, run = append(out, run), nil
		}
	}
	if len(run) > 0 {
		out = append(out, run)
	}
	return out
}

// maxPoints is the length from which a line is thinned: about two points for
// every pixel that it can cover.
const maxPoints = 1500

// thin keeps, of the neighbouring points that fall on the same narrow strip of
// the x axis, the first, the lowest, the highest and the last: what can be seen
// of a long line.
func thin(run []point, x scale) []point {
	if len(run) <= maxPoints {
		return run
	}
	const strips = maxPoints / 3
	strip := func(p point) int { return int(x.at(p.x) * strips) }
	var out []point
	for begin := 0; begin < len(run); {
		end, low, high := begin+1, begin, begin
		for ; end < len(run) && strip(run[end]) == strip(run[begin]); end++ {
			if run[end].y < run[low].y {
				low = end
			}
			if run[end].upper > run[high].upper {
				high = end
			}
		}
		kept := begin - 1
		for _, i := range []int{begin, min(low, high), max(low, high), end - 1} {
			if i > kept {
				out, kept = append(out, run[i]), i
			}
		}
		begin = end
	}
	return out
}

func drawRun(data draw.Canvas, s Series, run []point, colour color.NRGBA, x, y scale) {
	place := func(px, py float64) vg.Point {
		return vg.Point{X: data.X(x.at(px)), Y: data.Y(y.at(py))}
	}
	if s.Upper != nil {
		var outline []vg.Point
		for _, p := range run {
			outline = append(outline, place(p.x, p.y))
		}
		for i := len(run) - 1; i >= 0; i-- {
			outline = append(outline, place(run[i].x, run[i].upper))
		}
		data.FillPolygon(translucent(colour), outline)
		return
	}
	style := draw.LineStyle{Color: colour, Width: 1.7}
	if s.Reference {
		style.Width, style.Dashes = 1.3, referenceDashes
	}
	var path vg.Path
	for i, p := range run {
		at := place(p.x, p.y)
		switch {
		case i == 0:
			path.Move(at)
		case s.Steps:
			path.Line(vg.Point{X: at.X, Y: place(p.x, run[i-1].y).Y})
			path.Line(at)
		default:
			path.Line(at)
		}
	}
	data.SetLineStyle(style)
	data.Stroke(path)
	if len(run) == 1 || len(run) <= 40 && !s.Reference && !s.Steps {
		for _, p := range run {
			at := place(p.x, p.y)
			var dot vg.Path
			dot.Move(vg.Point{X: at.X + 2.2, Y: at.Y})
			dot.Arc(at, 2.2, 0, 2*math.Pi)
			dot.Close()
			data.SetColor(colour)
			data.Fill(dot)
		}
	}
}
