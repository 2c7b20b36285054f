package experiment

import (
	"fmt"
	"math"
)

// Table is what a computation returns. Cells of the rows are numbers, texts,
// true, false or nil; a number that is not finite becomes nil.
type Table struct {
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"`
	// Values are numbers that stand for the whole table: metrics of the cell, as
	// a training has, compared over seeds and with the baseline.
	Values map[string]float64 `json:"values,omitempty"`
	// Notes are sentences on what the table shows.
	Notes []string `json:"notes,omitempty"`
	// Figures are drawn as they are.
	Figures []Figure `json:"figures,omitempty"`
}

// Figure is a chart of a computation.
type Figure struct {
	Title   string   `json:"title"`
	Caption string   `json:"caption"`
	X       string   `json:"x"` // labels of the axes
	Y       string   `json:"y"`
	LogX    bool     `json:"log_x,omitempty"`
	LogY    bool     `json:"log_y,omitempty"`
	Series  []Series `json:"series"`
}

// Series is one line of a Figure, with a band around it where Low and High are.
type Series struct {
	Name      string    `json:"name"`
	X         []float64 `json:"x"`
	Y         []float64 `json:"y"`
	Low       []float64 `json:"low,omitempty"`
	High      []float64 `json:"high,omitempty"`
	Reference bool      `json:"reference,omitempty"` // dashed: something to compare with
}

const (
	maxTableRows = 1_000_000
	maxColumns   = 200
)

// check makes the table fit for JSON and for the report.
func (t *Table) check() error {
	if t == nil {
		return fmt.Errorf("a computation gave no table")
	}
	if len(t.Rows) > maxTableRows || len(t.Columns) > maxColumns {
		return fmt.Errorf("a table of %d rows and %d columns: %w", len(t.Rows), len(t.Columns), ErrTooLarge)
	}
	for i, row := range t.Rows {
		if len(row) != len(t.Columns) {
			return fmt.Errorf("row %d has %d cells for %d columns", i, len(row), len(t.Columns))
		}
		for j, v := range row {
			if x, ok := v.(float64); ok && (math.IsNaN(x) || math.IsInf(x, 0)) {
				row[j] = nil
			}
		}
	}
	for name, x := range t.Values {
		if !metricName.MatchString(name) {
			return fmt.Errorf("value %q: want lower-case letters, digits and underscores", name)
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			delete(t.Values, name)
		}
	}
	for _, f := range t.Figures {
		for _, s := range f.Series {
			if len(s.X) != len(s.Y) || len(s.Low) != len(s.High) || s.Low != nil && len(s.Low) != len(s.X) {
				return fmt.Errorf("figure %q, series %q: lengths differ", f.Title, s.Name)
			}
			for _, line := range [][]float64{s.X, s.Y, s.Low, s.High} {
				for _, x := range line {
					if math.IsNaN(x) || math.IsInf(x, 0) {
						return fmt.Errorf("figure %q, series %q: not a finite number", f.Title, s.Name)
					}
				}
			}
		}
	}
	return nil
}
