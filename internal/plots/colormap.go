package plots

import (
	"image/color"
	"math"
)

// colourMap turns [0, 1] into colours by linear interpolation between anchors.
type colourMap []color.NRGBA

// sequential is viridis (van der Walt and Smith, public domain) at nine
// places: its lightness rises evenly, for every kind of colour vision.
var sequential = colourMap{
	rgb(0x440154), rgb(0x472d7b), rgb(0x3b528b), rgb(0x2c728e), rgb(0x21918c),
	rgb(0x28ae80), rgb(0x5ec962), rgb(0xaddc30), rgb(0xfde725),
}

// diverging is ColorBrewer's PuOr turned to blue: blue below, white in the
// middle, orange above.
var diverging = colourMap{
	rgb(0x08306b), rgb(0x2171b5), rgb(0x6baed6), rgb(0xc6dbef), rgb(0xf7f7f7),
	rgb(0xfdd0a2), rgb(0xfd8d3c), rgb(0xd94801), rgb(0x7f2704),
}

// missing marks values that are not finite.
var missing = rgb(0xb0b7bf)

func (m colourMap) at(v float64) color.NRGBA {
	if math.IsNaN(v) {
		return missing
	}
	v = min(1, max(0, v)) * float64(len(m)-1)
	i := min(len(m)-2, int(v))
	f := v - float64(i)
	mix := func(a, b uint8) uint8 { return uint8(math.Round((1-f)*float64(a) + f*float64(b))) }
	a, b := m[i], m[i+1]
	return color.NRGBA{R: mix(a.R, b.R), G: mix(a.G, b.G), B: mix(a.B, b.B), A: 0xff}
}
