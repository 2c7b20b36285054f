package plots

import (
	"bytes"
	"image/png"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTonesAreDistinct(t *testing.T) {
	seen := map[string]string{hexOf(rgb(0)): "the SVG writer's default"}
	for _, tone := range tones() {
		h := hexOf(tone.light)
		if other, ok := seen[h]; ok {
			t.Errorf("%s is %s, as is %s: the theme cannot tell them apart", tone.name, h, other)
		}
		seen[h] = tone.name
		if !strings.Contains(Style(false), tone.name+":"+h) || !strings.Contains(Style(true), tone.name+":"+hexOf(tone.dark)) {
			t.Errorf("%s is not in the style", tone.name)
		}
	}
}

// TestLeast: an axis begins where it is told to, and bands end there.
func TestLeast(t *testing.T) {
	for _, a := range []Axis{{Log: true, Pad: true, Least: 0.1}, {Pad: true, Least: 0.1}, {Log: true, Least: 1000}} {
		if s := newScale(a, []float64{-3, 1e-9, 0.5, 20}); s.lo != a.Least || !(s.hi > s.lo) || s.at(a.Least) != 0 {
			t.Errorf("%+v: %+v", a, s)
		}
	}
	y := Axis{Log: true, Least: 0.1}
	band := Series{X: []float64{0, 1, 2, 3}, Y: []float64{-1, 1e-9, 0.5, math.NaN()}, Upper: []float64{1, 0.01, 2, 3}}
	runs := band.runs(false, y)
	want := []point{{0, 0.1, 1}, {1, 0.1, 0.1}, {2, 0.5, 2}}
	if len(runs) != 1 || !slices.Equal(runs[0], want) {
		t.Errorf("the band is %v, want %v", runs, want)
	}
	band.Upper = nil
	if runs := band.runs(false, y); len(runs) != 1 || len(runs[0]) != 2 {
		t.Errorf("the line is %v", runs)
	}
}

func TestFiguresTakeTheThemesColours(t *testing.T) {
	for name, f := range map[string]Figure{
		"chart": Chart{X: Axis{Label: "x & y <"}, Series: []Series{
			{Name: "a", X: []float64{1, 2, 3}, Y: []float64{1, math.NaN(), 3}},
			{Name: "r", X: []float64{1, 2}, Y: []float64{2, 2}, Reference: true},
			{Name: "band", X: []float64{1, 2}, Y: []float64{2, 2}, Upper: []float64{3, 4}},
		}},
		"bars": Bars{XLabel: "x", Bars: []Bar{{"a", 1}, {"b", math.Inf(1)}, {"c", 0}}},
		"heat": Heat{XLabel: "x", Rows: 2, Cols: 2, Panels: []Panel{{Values: []float64{0, 1, 2, math.NaN()}, Lo: 0.5, Hi: 2, Log: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			svg, err := SVG(f)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(svg, []byte("<svg class=\"plot\"")) || !bytes.Contains(svg, []byte("var(--plot-ink,")) ||
				bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("x & y")) {
				t.Fatalf("%.600s", svg)
			}
			b, err := PNG(f)
			if err != nil {
				t.Fatal(err)
			}
			img, err := png.Decode(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			w, h := f.size()
			if got, want := float64(img.Bounds().Dx())/float64(img.Bounds().Dy()), float64(w/h); math.Abs(got-want) > 0.01 {
				t.Fatalf("aspect %g; want %g", got, want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, f := range map[string]Figure{
		"lengths":     Chart{Series: []Series{{X: []float64{1}, Y: nil}}},
		"band":        Chart{Series: []Series{{X: []float64{1}, Y: []float64{1}, Upper: []float64{}}}},
		"cells":       Heat{Rows: 2, Cols: 2, Panels: []Panel{{Values: []float64{1}, Hi: 1}}},
		"empty scale": Heat{Rows: 1, Cols: 1, Panels: []Panel{{Values: []float64{1}}}},
		"log of 0":    Heat{Rows: 1, Cols: 1, Panels: []Panel{{Values: []float64{1}, Hi: 1, Log: true}}},
	} {
		if _, err := SVG(f); err == nil {
			t.Errorf("%s: drawn without an error", name)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		s    scale
		n    int
		want string
	}{
		{scale{lo: 0, hi: 5000}, 7, "0 1000 2000 3000 4000 5000"},
		{scale{lo: 0, hi: 80000}, 5, "0 20k 40k 60k 80k"},
		{scale{lo: -0.058, hi: 0.058}, 3, "−0.05 0 0.05"},
		{scale{lo: 0.02, hi: 1.1, log: true}, 5, "0.02 0.05 0.1 0.2 0.5 1"},
		{scale{lo: 1e-9, hi: 0.5, log: true}, 5, "1e−8 1e−6 1e−4 0.01"},
		{scale{lo: 1, hi: 4096, log: true}, 7, "1 10 100 1000"},
		{scale{lo: 2e-5, hi: 9e-5}, 5, "2e−5 4e−5 6e−5 8e−5"},
		{scale{lo: 0, hi: 3e9}, 3, "0 1G 2G 3G"},
	} {
		var labels []string
		for _, tick := range c.s.ticks(c.n) {
			labels = append(labels, tick.label)
		}
		if got := strings.Join(labels, " "); got != c.want {
			t.Errorf("%+v: got %q; want %q", c.s, got, c.want)
		}
	}
}

// Whatever the values, a scale holds them and has ticks inside.
func TestScaleHoldsItsValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vs := rapid.SliceOf(rapid.Float64Range(-1e12, 1e12)).Draw(t, "values")
		a := Axis{Log: rapid.Bool().Draw(t, "log"), Pad: rapid.Bool().Draw(t, "pad")}
		s := newScale(a, vs)
		if !(s.lo < s.hi) || a.Log && s.lo <= 0 {
			t.Fatalf("scale %+v", s)
		}
		for _, v := range vs {
			if at := s.at(v); usable(v, a.Log) && !(at >= -1e-9 && at <= 1+1e-9) {
				t.Fatalf("%g is at %g of %+v", v, at, s)
			}
		}
		ticks := s.ticks(5)
		if len(ticks) > 30 {
			t.Fatalf("%d ticks on %+v", len(ticks), s)
		}
		for _, tick := range ticks {
			if at := s.at(tick.value); !(at >= -1e-6 && at <= 1+1e-6) {
				t.Fatalf("tick %+v is at %g of %+v", tick, at, s)
			}
		}
	})
}

func TestThinKeepsWhatCanBeSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(maxPoints+1, 5*maxPoints).Draw(t, "n")
		peak := rapid.IntRange(0, n-1).Draw(t, "peak")
		run := make([]point, n)
		for i := range run {
			run[i] = point{float64(i), math.Sin(float64(i)), math.Sin(float64(i))}
		}
		run[peak].y, run[peak].upper = 9, 9
		got := thin(run, scale{lo: 0, hi: float64(n - 1)})
		if len(got) > 2*maxPoints || got[0] != run[0] || got[len(got)-1] != run[n-1] {
			t.Fatalf("%d of %d points, from %v to %v", len(got), n, got[0], got[len(got)-1])
		}
		found := false
		for i, p := range got {
			found = found || p == run[peak]
			if i > 0 && p.x <= got[i-1].x {
				t.Fatalf("point %d goes back", i)
			}
		}
		if !found {
			t.Fatal("the peak is gone")
		}
	})
}

func TestColourMapsEndAndClamp(t *testing.T) {
	for _, m := range []colourMap{sequential, diverging} {
		if m.at(-1) != m[0] || m.at(0) != m[0] || m.at(1) != m[len(m)-1] || m.at(math.Inf(1)) != m[len(m)-1] {
			t.Error("the ends are not the anchors")
		}
		if m.at(math.NaN()) != missing {
			t.Error("NaN has a colour of the scale")
		}
	}
}

// TestImagesFillTheirBoxes: a browser would otherwise keep the proportions of a
// colour bar's few pixels and draw a hairline.
func TestImagesFillTheirBoxes(t *testing.T) {
	heat := Heat{XLabel: "x", Rows: 2, Cols: 2, Panels: []Panel{{Values: []float64{0.1, 0.2, 0.3, 0.4}, Hi: 1}}}
	svg, err := SVG(heat)
	if err != nil {
		t.Fatal(err)
	}
	if n, free := strings.Count(string(svg), "<image "), strings.Count(string(svg), `<image preserveAspectRatio="none"`); n == 0 || n != free {
		t.Errorf("%d images, %d of which fill their boxes", n, free)
	}
}
