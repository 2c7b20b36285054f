package main

import (
	"bytes"
	"fmt"
	"html"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/losses"
)

const (
	plotWidth  = 36 * vg.Centimeter
	plotHeight = 13 * vg.Centimeter
	// plotTop cuts the steep members so that the others can be seen.
	plotTop = 8.0
)

// lossPanel is one of the curves of a divergence.
type lossPanel struct {
	title, x, y      string
	from, to, lo, hi float64
	curve            func(losses.Divergence) func(float64) float64
}

func lossPanels() []lossPanel {
	return []lossPanel{
		{"loss", "residual δ", "g(δ)", -4, 4, 0, plotTop, func(d losses.Divergence) func(float64) float64 { return d.G }},
		{"weight", "residual δ", "g'(δ)", -4, 4, -plotTop, plotTop, func(d losses.Divergence) func(float64) float64 { return d.G1 }},
		{"generator", "u = e^(−δ) = target / model", "f(u)", 0.02, 6, 0, plotTop, func(d losses.Divergence) func(float64) float64 { return d.F }},
	}
}

// drawLosses renders the three panels side by side; format is svg, png or
// html, which is a page with the SVG inside and nothing to load.
func drawLosses(members []losses.Divergence, format string) ([]byte, error) {
	var buf bytes.Buffer
	switch format {
	case "png":
		c := vgimg.NewWith(vgimg.UseWH(plotWidth, plotHeight), vgimg.UseDPI(110))
		if err := drawPanels(members, draw.New(c)); err != nil {
			return nil, err
		}
		if _, err := (vgimg.PngCanvas{Canvas: c}).WriteTo(&buf); err != nil {
			return nil, fmt.Errorf("encode PNG: %w", err)
		}
		return buf.Bytes(), nil
	case "svg", "html":
		c := vgsvg.New(plotWidth, plotHeight)
		if err := drawPanels(members, draw.New(c)); err != nil {
			return nil, err
		}
		if _, err := c.WriteTo(&buf); err != nil {
			return nil, fmt.Errorf("encode SVG: %w", err)
		}
	default:
		return nil, fielderr.New("--out", format, "a file name that ends in .svg, .png or .html")
	}
	if format == "svg" {
		return buf.Bytes(), nil
	}
	return lossPage(members, buf.Bytes()), nil
}

func drawPanels(members []losses.Divergence, canvas draw.Canvas) error {
	panels := lossPanels()
	row := make([]*plot.Plot, len(panels))
	for i, p := range panels {
		var err error
		if row[i], err = p.plot(members, i == 1); err != nil {
			return fmt.Errorf("plot %s: %w", p.y, err)
		}
	}
	tiles := draw.Tiles{Rows: 1, Cols: len(row), PadX: 6 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter, PadLeft: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter}
	for i, c := range plot.Align([][]*plot.Plot{row}, tiles, canvas)[0] {
		row[i].Draw(c)
	}
	return nil
}

func (p lossPanel) plot(members []losses.Divergence, legend bool) (*plot.Plot, error) {
	out := plot.New()
	out.Title.Text, out.X.Label.Text, out.Y.Label.Text = p.title, p.x, p.y
	out.X.Min, out.X.Max, out.Y.Min, out.Y.Max = p.from, p.to, p.lo, p.hi
	out.Legend.Top, out.Legend.Left = true, true // free in the panel of g'
	out.Legend.TextStyle.Font.Size = font.Points(9)
	out.Add(plotter.NewGrid())
	for i, d := range members {
		style := draw.LineStyle{Color: plotutil.Color(i), Width: vg.Points(1.5), Dashes: plotutil.Dashes(i / 7)}
		for k, run := range p.runs(p.curve(d)) {
			line, err := plotter.NewLine(run)
			if err != nil {
				return nil, err
			}
			line.LineStyle = style
			out.Add(line)
			if legend && k == 0 {
				out.Legend.Add(d.Name(), line)
			}
		}
	}
	// Adding data widens the axes; the panel keeps its own.
	out.X.Min, out.X.Max, out.Y.Min, out.Y.Max = p.from, p.to, p.lo, p.hi
	return out, nil
}

// runs samples a curve and cuts it where it leaves the panel.
func (p lossPanel) runs(f func(float64) float64) []plotter.XYs {
	const points = 400
	var runs []plotter.XYs
	var run plotter.XYs
	for i := range points + 1 {
		x := p.from + (p.to-p.from)*float64(i)/points
		if y := f(x); y >= p.lo && y <= p.hi && !math.IsNaN(y) {
			run = append(run, plotter.XY{X: x, Y: y})
			continue
		}
		if len(run) > 1 {
			runs = append(runs, run)
		}
		run = nil
	}
	if len(run) > 1 {
		runs = append(runs, run)
	}
	return runs
}

// lossPage wraps the SVG in a page without anything to load.
func lossPage(members []losses.Divergence, svg []byte) []byte {
	var b bytes.Buffer
	b.WriteString("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>f-TB losses</title>\n" +
		"<style>body{font:15px sans-serif;margin:2em auto;max-width:80em}svg{width:100%;height:auto}td,th{text-align:left;padding:.2em 1em .2em 0}</style></head><body>\n" +
		"<h1>f-TB losses</h1>\n")
	// An XML declaration may not stand inside a page.
	if i := bytes.Index(svg, []byte("<svg")); i >= 0 {
		svg = svg[i:]
	}
	b.Write(svg)
	b.WriteString("\n<table><tr><th>member</th><th>effective alpha</th><th>on-policy behaviour</th></tr>\n")
	for _, d := range members {
		a := "–"
		if v, ok := d.EffectiveAlpha(); ok {
			a = fmt.Sprintf("%g", v)
		}
		fmt.Fprintf(&b, "<tr><td>%s</td><td>%s</td><td>%s</td></tr>\n", html.EscapeString(d.Name()), a, html.EscapeString(d.Behaviour()))
	}
	fmt.Fprintf(&b, "</table>\n<p>%s</p>\n</body></html>\n", html.EscapeString(losses.Convention))
	return b.Bytes()
}
