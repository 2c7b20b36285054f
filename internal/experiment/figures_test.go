package experiment

import (
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
