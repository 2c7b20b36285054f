package experiment

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/plots"
)

// TestACellHasOneColour in its curves and in the figures of times, whose rows say
// what their names are values of.
func TestACellHasOneColour(t *testing.T) {
	p := mustPlan(t, grid+"times: {close: {when: tv <= 0.1}}\nfigures: [tv]\n", "full")
	r := &Results{Plan: p}
	for _, part := range p.Parts {
		for _, c := range part.Cells {
			for _, seed := range part.Seeds {
				rec := &Record{Part: part.Name, Cell: c.Name, Seed: seed, Status: Finished, Values: map[string]float64{"close": 10}}
				rec.Points = []Point{{Updates: 10, Values: map[string]float64{"tv": 0.5}}, {Updates: 20, Values: map[string]float64{"tv": 0.4}}}
				r.Records = append(r.Records, rec)
			}
		}
		lines := map[string]int{}
		var rows []plots.IntervalRow
		for _, f := range r.figures(part) {
			switch plot := f.plot.(type) {
			case plots.Chart:
				for _, s := range plot.Series {
					if s.Name != "" {
						lines[s.Name] = s.Colour
					}
				}
			case plots.Intervals:
				rows = plot.Rows
				if want := "by variant, divergence"; part.Name == "b" && !strings.Contains(plot.Title, want) {
					t.Errorf("%q does not say %q", plot.Title, want)
				}
			}
		}
		if len(rows) != len(part.Cells) || len(lines) < 2 {
			t.Fatalf("%d rows and %d lines for %d cells", len(rows), len(lines), len(part.Cells))
		}
		for i, c := range part.Cells {
			if want := lines[part.lineName(c)]; rows[i].Colour != want {
				t.Errorf("%s: a row of colour %d, a line of colour %d", c.Name, rows[i].Colour, want)
			}
		}
	}
}

// curves of a part with a line for each list of values: those of the seeds at each
// evaluation.
func curves(lines ...[][]float64) (*Results, *Part) {
	p := &Part{Name: "p", Kind: Train, Axes: []string{"loss.divergence"}, Figures: []string{"tv"}}
	r := &Results{Plan: &Plan{Parts: []*Part{p}}}
	for i, points := range lines {
		c := &Cell{Part: "p", Name: fmt.Sprint(i), Values: []Value{{"loss.divergence", fmt.Sprint(i)}}}
		p.Cells = append(p.Cells, c)
		for seed := range points[0] {
			rec := &Record{Part: "p", Cell: c.Name, Seed: uint64(seed), Status: Finished}
			for at, values := range points {
				rec.Points = append(rec.Points, Point{Updates: float64(at), Values: map[string]float64{"tv": values[seed]}})
			}
			r.Records = append(r.Records, rec)
		}
	}
	return r, p
}

// TestBandsOnLogarithmicAxes: where an interval reaches below what the axis shows, its
// edge is where the band ends, for all evaluations the same.
func TestBandsOnLogarithmicAxes(t *testing.T) {
	r, p := curves([][]float64{{0.9, 1}, {0.1, 0.3}, {0.011, 0.019}, {0.02, 0.02}})
	f := r.figures(p)[0]
	chart := f.plot.(plots.Chart)
	if !chart.Y.Log || math.Abs(chart.Y.Least-0.015/2) > 1e-12 || !strings.Contains(f.caption, "lower edge") {
		t.Errorf("axis %+v, %q", chart.Y, f.caption)
	}
	if want := MeanOf([]float64{0.1, 0.3}); chart.Series[0].Y[1] != want.Low || want.Low > 0 {
		t.Errorf("the band begins at %v, the interval at %v", chart.Series[0].Y[1], want.Low)
	}
	r, p = curves([][]float64{{1, 1.01}, {0.02, 0.0201}})
	if f := r.figures(p)[0]; f.plot.(plots.Chart).Y.Least != 0 || strings.Contains(f.caption, "edge") {
		t.Errorf("nothing is below the axis: %+v, %q", f.plot.(plots.Chart).Y, f.caption)
	}
}

// TestChartsHaveTitlesOfTheirOwn, also those that share a panel.
func TestChartsHaveTitlesOfTheirOwn(t *testing.T) {
	lines := make([][][]float64, 13)
	for i := range lines {
		lines[i] = [][]float64{{1, 2}, {1, 2}}
	}
	r, p := curves(lines...)
	var titles []string
	for _, f := range r.figures(p) {
		titles = append(titles, f.title)
	}
	if want := []string{"p: tv (1 of 3)", "p: tv (2 of 3)", "p: tv (3 of 3)"}; !slices.Equal(titles, want) {
		t.Errorf("got %q", titles)
	}
	r, p = curves(lines[:5]...)
	if got := r.figures(p)[0].title; got != "p: tv" {
		t.Errorf("one chart is %q", got)
	}
}

// TestTimesSayWhatTheyAre: a median in the table, a mean beside the baseline.
func TestTimesSayWhatTheyAre(t *testing.T) {
	r, p := curves([][]float64{{1, 2}}, [][]float64{{1, 2}})
	p.Metrics, p.Times, p.Seeds = []string{"tv"}, []Time{{Name: "close", When: "tv <= 1", Runs: 1}}, []uint64{0, 1}
	p.Baseline = p.Cells[0].Values
	for i, rec := range r.Records {
		rec.Values = map[string]float64{"tv": 1, "close": float64(i * i * 10)}
	}
	v := r.view(p)
	if want := []string{"tv", "close (updates, median)"}; !slices.Equal(v.Head, want) {
		t.Errorf("heads %q", v.Head)
	}
	var b strings.Builder
	if err := page.Execute(&b, pageView{Parts: []partView{v}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<th>baseline, mean</th>", "<th>difference, mean</th>", "<em>median</em> of a time"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}
