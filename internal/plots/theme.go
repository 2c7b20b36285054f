package plots

import (
	"bytes"
	"fmt"
	"image/color"
	"regexp"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/font/liberation"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// tone is one colour of the theme. The figures are drawn in the light colours;
// in SVG each becomes var(--name, light), which a page may set otherwise. So no
// two tones may share a light colour, and none may be black, which the SVG
// writer leaves out as the default.
type tone struct {
	name        string
	light, dark color.NRGBA
}

func rgb(hex uint32) color.NRGBA {
	return color.NRGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 0xff}
}

// The series colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/),
// darkened or lightened where the background asks for it.
var (
	paper = rgb(0xffffff)
	ink   = tone{"plot-ink", rgb(0x1f2933), rgb(0xe6e8eb)}
	faint = tone{"plot-faint", rgb(0x66727f), rgb(0x9aa4ae)}
	grid  = tone{"plot-grid", rgb(0xe3e6ea), rgb(0x343b43)}

	seriesTones = []tone{
		{"plot-blue", rgb(0x0072b2), rgb(0x56a8e8)},
		{"plot-orange", rgb(0xd55e00), rgb(0xf08a3c)},
		{"plot-green", rgb(0x009e73), rgb(0x2fc79b)},
		{"plot-purple", rgb(0xb3588f), rgb(0xd98bbb)},
		{"plot-amber", rgb(0xc48a00), rgb(0xe9b63a)},
		{"plot-sky", rgb(0x3fa0d4), rgb(0x8ccbf2)},
	}
)

func tones() []tone { return append([]tone{ink, faint, grid}, seriesTones...) }

func hexOf(c color.NRGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// Style returns the CSS custom properties of the figures' colours, as
// declarations for a rule such as :root.
func Style(dark bool) string {
	var b strings.Builder
	for _, t := range tones() {
		c := t.light
		if dark {
			c = t.dark
		}
		fmt.Fprintf(&b, "--%s:%s;", t.name, hexOf(c))
	}
	return b.String()
}

var (
	svgStart = regexp.MustCompile(`(?s)^.*?<svg[^>]*>`)
	svgFont  = regexp.MustCompile(`font-family:[^;"]*;font-variant:[^;"]*;`)
	svgColor = regexp.MustCompile(`#[0-9A-Fa-f]{6}`)
)

// themed turns a drawn SVG document into an element that takes its size and
// colours from the page. The fonts named have the metrics that it was laid out with.
func themed(svg []byte, w, h vg.Length) []byte {
	svg = svgStart.ReplaceAll(svg, fmt.Appendf(nil,
		`<svg class="plot" viewBox="0 0 %.5g %.5g" role="img" font-family="'Liberation Sans',Arial,Helvetica,sans-serif" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">`,
		w.Points(), h.Points()))
	svg = svgFont.ReplaceAll(svg, nil)
	svg = bytes.ReplaceAll(svg, []byte("data:image/jpg;"), []byte("data:image/png;")) // what the writer embeds is PNG
	// Images fill the box that the plot gives them: colour bars are one pixel high.
	svg = bytes.ReplaceAll(svg, []byte("<image "), []byte(`<image preserveAspectRatio="none" `))
	variables := map[string]string{}
	for _, t := range tones() {
		variables[hexOf(t.light)] = fmt.Sprintf("var(--%s,%s)", t.name, hexOf(t.light))
	}
	svg = svgColor.ReplaceAllFunc(svg, func(c []byte) []byte {
		if v, ok := variables[string(bytes.ToLower(c))]; ok {
			return []byte(v)
		}
		return c
	})
	return bytes.TrimSpace(svg)
}

// Text sizes, in points.
const (
	titleSize = 12
	labelSize = 10
	tickSize  = 9
)

// textStyle is left-aligned on the baseline.
func textStyle(size vg.Length, c color.Color, bold bool) text.Style {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	if bold {
		f.Weight = xfont.WeightBold
	}
	return text.Style{
		Color: c, Font: f, XAlign: draw.XLeft, YAlign: draw.YBottom,
		Handler: text.Plain{Fonts: font.NewCache(liberation.Collection())},
	}
}
