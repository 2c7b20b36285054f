package experiment

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
)

// Names of the results in a set's folder.
const (
	ResultsFile = "results" // .csv, .parquet, .json: a line per task, nothing measured with a clock
	TimingsFile = "timings" // .csv, .parquet: what the tasks cost
	CurvesFile  = "curves"  // .csv, .parquet: a line per evaluation and metric
)

// sheet is a table on its way to a file. A cell is a string, float64, int64, or nil.
type sheet struct {
	columns []string
	rows    [][]any
}

// Write makes tables, figures and the report in dir, and returns the report's path.
func (r *Results) Write(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("results: %w", err)
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return "", fmt.Errorf("results: %w", err)
	}
	claims := r.claims()
	errs := []error{
		atomicfile.WriteBytes(filepath.Join(dir, ResultsFile+".json"), 0o644, append(data, '\n')),
		r.results().write(dir, ResultsFile),
		r.timings().write(dir, TimingsFile),
		r.curves().write(dir, CurvesFile),
		writeClaims(dir, claims),
	}
	for _, p := range r.Plan.Parts {
		if t := r.table(p); t != nil {
			errs = append(errs, t.write(dir, "table-"+p.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", fmt.Errorf("results: %w", err)
	}
	return r.writeReport(dir, claims)
}

// axes lists the axes of all parts, each once.
func (r *Results) axes() []string {
	var out []string
	for _, p := range r.Plan.Parts {
		for _, a := range p.Axes {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// place is the value of a record on an axis: a number where it reads as a finite one.
func (rec *Record) place(axis string) any {
	for _, v := range rec.At {
		if v.Axis == axis {
			if x, err := strconv.ParseFloat(v.Text, 64); err == nil && x-x == 0 {
				return x
			}
			return v.Text
		}
	}
	return nil
}

// results has one row per task, in the order of the plan.
func (r *Results) results() *sheet {
	axes := r.axes()
	var names []string
	for _, p := range r.Plan.Parts {
		for _, n := range r.names(p) {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	s := &sheet{columns: slices.Concat([]string{"part", "cell"}, axes, []string{"seed", "status", "diverged", "updates", "trajectories"}, names)}
	for _, rec := range r.Records {
		row := []any{rec.Part, rec.Cell}
		for _, a := range axes {
			row = append(row, rec.place(a))
		}
		diverged := int64(0)
		if rec.Status == Diverged {
			diverged = 1
		}
		row = append(row, int64(rec.Seed), rec.Status, diverged)
		if n := len(rec.Points); n > 0 {
			row = append(row, rec.Points[n-1].Updates, rec.Points[n-1].Trajectories)
		} else {
			row = append(row, nil, nil)
		}
		for _, n := range names {
			if x, ok := rec.Values[n]; ok {
				row = append(row, x)
			} else {
				row = append(row, nil)
			}
		}
		s.rows = append(s.rows, row)
	}
	return s
}

func (r *Results) timings() *sheet {
	s := &sheet{columns: []string{"part", "cell", "seed", "seconds", "eval_seconds"}}
	for _, rec := range r.Records {
		if done(rec) {
			s.rows = append(s.rows, []any{rec.Part, rec.Cell, int64(rec.Seed), rec.Seconds, rec.Eval})
		}
	}
	return s
}

// curves has the metrics and what the times look at, at every evaluation.
func (r *Results) curves() *sheet {
	s := &sheet{columns: []string{"part", "cell", "seed", "updates", "trajectories", "metric", "value"}}
	for _, p := range r.Plan.Parts {
		names := p.drawn()
		for _, rec := range r.Records {
			if rec.Part != p.Name {
				continue
			}
			for _, pt := range rec.Points {
				for _, n := range names {
					if x, ok := pt.Values[n]; ok {
						s.rows = append(s.rows, []any{rec.Part, rec.Cell, int64(rec.Seed), pt.Updates, pt.Trajectories, n, x})
					}
				}
			}
		}
	}
	return s
}

// drawn lists the metrics of which a part keeps curves.
func (p *Part) drawn() []string {
	out := slices.Clone(p.Metrics)
	for _, n := range p.Figures {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	for _, t := range p.Times {
		when, err := parseCondition(t.When)
		if err != nil {
			continue
		}
		for _, c := range when {
			if !slices.Contains(out, c.left) {
				out = append(out, c.left)
			}
		}
	}
	return out
}

// table joins the tables of a computed part's tasks, each row behind the values
// of its cell's axes; nil for a part of trainings.
func (r *Results) table(p *Part) *sheet {
	if p.Kind == Train {
		return nil
	}
	s := &sheet{columns: append(slices.Clone(p.Axes), "seed")}
	head := len(s.columns)
	for _, rec := range r.Records {
		if rec.Part != p.Name || rec.Table == nil {
			continue
		}
		at := make([]int, len(rec.Table.Columns))
		for i, c := range rec.Table.Columns {
			j := slices.Index(s.columns[head:], c)
			if j < 0 {
				j = len(s.columns) - head
				s.columns = append(s.columns, c)
			}
			at[i] = head + j
		}
		for _, line := range rec.Table.Rows {
			row := make([]any, len(s.columns))
			for i, a := range p.Axes {
				row[i] = rec.place(a)
			}
			row[len(p.Axes)] = int64(rec.Seed)
			for i, v := range line {
				if b, ok := v.(bool); ok {
					v = strconv.FormatBool(b)
				}
				row[at[i]] = v
			}
			s.rows = append(s.rows, row)
		}
	}
	for i, row := range s.rows { // a later table may have had more columns
		for len(row) < len(s.columns) {
			row = append(row, nil)
		}
		s.rows[i] = row
	}
	return s
}

// write makes name.csv and name.parquet.
func (s *sheet) write(dir, name string) error {
	var text bytes.Buffer
	if err := s.csv(&text); err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(filepath.Join(dir, name+".csv"), 0o644, text.Bytes()); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, name+".parquet"), 0o644, s.parquet)
}

func textCell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}

func (s *sheet) csv(w io.Writer) error {
	out := csv.NewWriter(w)
	lines := [][]string{s.columns}
	for _, row := range s.rows {
		line := make([]string, len(row))
		for i, v := range row {
			line[i] = textCell(v)
		}
		lines = append(lines, line)
	}
	return out.WriteAll(lines)
}

// parquet writes every column as optional: doubles where all values are
// numbers, integers where all are integers, text otherwise.
func (s *sheet) parquet(w io.Writer) error {
	group := parquet.Group{}
	kinds := make([]parquet.Kind, len(s.columns))
	for i, c := range s.columns {
		kinds[i] = s.kind(i)
		node := parquet.String()
		if kinds[i] != parquet.ByteArray {
			node = parquet.Leaf(map[parquet.Kind]parquet.Type{parquet.Int64: parquet.Int64Type, parquet.Double: parquet.DoubleType}[kinds[i]])
		}
		group[c] = parquet.Optional(node)
	}
	out := parquet.NewWriter(w, parquet.NewSchema("experiment", group), parquet.Compression(&parquet.Zstd), parquet.CreatedBy("driftmesh", "", ""))
	order := slices.Sorted(maps.Keys(group)) // how a group lays its columns out
	for _, row := range s.rows {
		line := make(parquet.Row, len(order))
		for j, c := range order {
			line[j] = cellValue(row[slices.Index(s.columns, c)], kinds[slices.Index(s.columns, c)]).Level(0, 0, j)
			if !line[j].IsNull() {
				line[j] = line[j].Level(0, 1, j)
			}
		}
		if _, err := out.WriteRows([]parquet.Row{line}); err != nil {
			return err
		}
	}
	return out.Close()
}

func (s *sheet) kind(column int) parquet.Kind {
	kind := parquet.Int64
	for _, row := range s.rows {
		switch row[column].(type) {
		case nil, int64:
		case float64:
			kind = parquet.Double
		default:
			return parquet.ByteArray
		}
	}
	return kind
}

func cellValue(v any, kind parquet.Kind) parquet.Value {
	switch x := v.(type) {
	case nil:
		return parquet.NullValue()
	case int64:
		if kind == parquet.Double {
			return parquet.DoubleValue(float64(x))
		}
		if kind == parquet.Int64 {
			return parquet.Int64Value(x)
		}
	case float64:
		if kind == parquet.Double {
			return parquet.DoubleValue(x)
		}
	}
	return parquet.ByteArrayValue([]byte(textCell(v)))
}
