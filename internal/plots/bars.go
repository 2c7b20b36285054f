package plots

import (
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Bars shows one value per category.
type Bars struct {
	Title          string
	XLabel, YLabel string
	Bars           []Bar
	// Ratios puts values on a logarithmic axis: bars go up or down from 1.
	Ratios bool
}

// Bar is one category. A value that is negative or not finite has no bar, nor has 0
// among ratios.
type Bar struct {
	Label string
	Value float64
}

func (b Bars) size() (vg.Length, vg.Length) { return chartWidth, chartHeight }

func (b Bars) draw(canvas draw.Canvas, withTitle bool) error {
	values := make([]float64, len(b.Bars))
	widest := vg.Length(0)
	small := textStyle(tickSize, faint.light, false)
	for i, bar := range b.Bars {
		values[i] = bar.Value
		widest = max(widest, small.Width(bar.Label))
	}
	base := 0.0
	if b.Ratios {
		base = 1
	}
	y := newScale(Axis{Include: []float64{base}, Pad: true, Log: b.Ratios}, values)
	n := float64(max(1, len(b.Bars)))
	centre := func(i float64) float64 { return (i + 0.5) / n }
	// Labels that would touch each other are left out evenly.
	every := max(1, int(float64(widest+10)*n/(chartWidth-60)+0.999))
	var labels []tick
	for i := 0; i < len(b.Bars); i += every {
		labels = append(labels, tick{float64(i), b.Bars[i].Label})
	}
	title := ""
	if withTitle {
		title = b.Title
	}
	data := axes(header(canvas, title, b.YLabel, nil), b.XLabel, labels, y.ticks(5), centre, y.at)
	half := min(0.42/n, 0.06) // a single bar need not fill the figure
	for i, bar := range b.Bars {
		if !usable(bar.Value, b.Ratios) || bar.Value <= 0 {
			continue
		}
		at, low, high := centre(float64(i)), min(base, bar.Value), max(base, bar.Value)
		fillRect(data, seriesTones[0].light, data.X(at-half), data.Y(y.at(low)), data.X(at+half), data.Y(y.at(high)))
	}
	return nil
}
