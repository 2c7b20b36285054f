// Package plots draws the figures of Driftmesh's reports: lines, bars and heat
// maps in one quiet style, as SVG that follows a page's light or dark theme and
// as PNG. The palette can be told apart with any common colour blindness.
package plots

import (
	"bytes"
	"fmt"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Figure is something that can be drawn: a Chart, Bars or Heat.
type Figure interface {
	// size is the figure's extent in points.
	size() (width, height vg.Length)
	// draw paints the figure on a canvas of that size. The title is painted
	// only where nothing else shows it.
	draw(c draw.Canvas, withTitle bool) error
}

// Resolution of PNG files, in dots per inch.
const pngDPI = 160

// SVG draws a figure as an <svg> element without size, title and XML prologue,
// to be placed into a page that writes the title itself. Its colours are CSS
// variables (see Style) with the light theme's colours as defaults.
func SVG(f Figure) ([]byte, error) {
	w, h := f.size()
	canvas := vgsvg.New(w, h)
	if err := f.draw(draw.New(canvas), false); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("draw SVG: %w", err)
	}
	return themed(b.Bytes(), w, h), nil
}

// PNG draws a figure with its title, on white, at 160 dots per inch.
func PNG(f Figure) ([]byte, error) {
	w, h := f.size()
	canvas := vgimg.NewWith(vgimg.UseWH(w, h), vgimg.UseDPI(pngDPI), vgimg.UseBackgroundColor(paper))
	if err := f.draw(draw.New(canvas), true); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(&b); err != nil {
		return nil, fmt.Errorf("draw PNG: %w", err)
	}
	return b.Bytes(), nil
}
