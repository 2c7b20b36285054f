package experiment

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/strictyaml"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

// expansion makes the cells of one part.
type expansion struct {
	study    *Study
	checks   Checks
	named    contents
	at       string // path of the section in the file
	section  section
	filters  [][][]setting // a cell stays if it matches one of each list that is not empty
	excluded [][]setting
}

// coordinate is one value of one axis: a label and the fields that it sets.
type coordinate struct {
	value Value
	sets  []setting
}

// expand makes a part of at most limit cells.
func (e *expansion) expand(name string, seeds strictyaml.Part, limit int) (*Part, error) {
	sec := &e.section
	p := &Part{
		Name: name, About: sec.About, Kind: sec.Kind, Metrics: sec.Metrics, Figures: sec.Figures,
		Higher: sec.Higher, Margin: sec.Margin,
	}
	if p.Kind == "" {
		p.Kind = Train
	}
	var err error
	if p.Seeds, err = e.seeds(seeds); err != nil {
		return nil, err
	}
	for _, t := range sec.Times {
		if t.Runs == 0 {
			t.Runs = defaultRuns
		}
		p.Times = append(p.Times, Time{Name: t.Name, When: t.When, Runs: t.Runs})
	}
	for _, q := range sec.Claims {
		p.Claims = append(p.Claims, q.plan())
	}
	if p.Kind == Train {
		if err := e.checkNames(); err != nil {
			return nil, err
		}
	}
	grid, size := e.grid(p)
	if size > limit {
		return nil, fmt.Errorf("%s: part %s: %w: more than %d cells in all parts", e.study.source.Name(), name, ErrTooLarge, maxCells)
	}
	for _, b := range sec.Baseline {
		if !slices.Contains(p.Axes, b.Path) {
			return nil, b.Value.Fault(fielderr.New("baseline."+b.Path, b.Path, "an axis: "+strings.Join(p.Axes, ", ")))
		}
		p.Baseline = append(p.Baseline, Value{b.Path, textOf(b.Value)})
	}
	base, file, err := e.base()
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, coordinates := range product(grid) {
		c := &Cell{Part: name}
		sets := slices.Clone(sec.With)
		var names []string
		for i, at := range coordinates {
			c.Values = append(c.Values, at.value)
			sets = append(sets, at.sets...)
			names = append(names, p.label(i)+"="+at.value.Text)
		}
		c.Name = strings.Join(names, ", ")
		if c.Name == "" {
			c.Name = "base"
		}
		if !e.wanted(c) {
			continue
		}
		if err := e.fill(c, p.Kind, base, file, sets); err != nil {
			faults = append(faults, err)
			continue
		}
		p.Cells = append(p.Cells, c)
	}
	if err := distinct(faults); err != nil {
		return nil, err
	}
	if len(p.Cells) == 0 {
		return nil, fmt.Errorf("%s: part %s has no cell; its filters leave none", e.study.source.Name(), name)
	}
	return p, e.checkBaseline(p)
}

// checkBaseline finds a baseline that no cell has.
func (e *expansion) checkBaseline(p *Part) error {
	if len(p.Baseline) == 0 || slices.ContainsFunc(p.Cells, func(c *Cell) bool { return c.has(p.Baseline) }) {
		return nil
	}
	return e.section.Baseline[0].Value.Fault(fielderr.New("baseline", p.Baseline[0].Text, "values that a cell has"))
}

// distinct joins faults, each text once: a wrong value is in many cells.
func distinct(faults []error) error {
	seen := map[string]bool{}
	var out []error
	for _, err := range faults {
		if !seen[err.Error()] {
			seen[err.Error()] = true
			out = append(out, err)
		}
	}
	return errors.Join(out...)
}

// grid lists the coordinates of every axis, and the number of their combinations.
func (e *expansion) grid(p *Part) (grid [][]coordinate, size int) {
	size = 1
	add := func(axis string, line []coordinate) {
		p.Axes = append(p.Axes, axis)
		grid = append(grid, line)
		size = min(size*len(line), maxTasks)
	}
	if len(e.section.Variants) > 0 {
		var line []coordinate
		for _, v := range e.section.Variants {
			line = append(line, coordinate{Value{VariantAxis, v.Name}, v.With})
		}
		add(VariantAxis, line)
	}
	for _, a := range e.section.Axes {
		var line []coordinate
		for _, v := range a.Values {
			line = append(line, coordinate{Value{a.Path, textOf(v)}, []setting{{a.Path, v}}})
		}
		add(a.Path, line)
	}
	return grid, size
}

// product lists all combinations; the last axis varies fastest.
func product(grid [][]coordinate) [][]coordinate {
	out := [][]coordinate{nil}
	for _, line := range grid {
		var next [][]coordinate
		for _, head := range out {
			for _, c := range line {
				next = append(next, append(slices.Clip(slices.Clone(head)), c))
			}
		}
		out = next
	}
	return out
}

// label is the short name of an axis: the last name of its path, unless another
// axis ends in the same.
func (p *Part) label(i int) string {
	last := func(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
	for j, other := range p.Axes {
		if j != i && last(other) == last(p.Axes[i]) {
			return p.Axes[i]
		}
	}
	return last(p.Axes[i])
}

// has says whether the cell has all of the values.
func (c *Cell) has(values []Value) bool {
	for _, v := range values {
		if !slices.Contains(c.Values, v) {
			return false
		}
	}
	return true
}

// wanted applies the filters. A filter names axes, each with one value or a
// list of values; axes that the part does not have match nothing.
func (e *expansion) wanted(c *Cell) bool {
	matches := func(filter []setting) bool {
		for _, f := range filter {
			values, isList := f.Value.Items()
			if !isList {
				values = []strictyaml.Part{f.Value}
			}
			if !slices.ContainsFunc(values, func(v strictyaml.Part) bool {
				return slices.Contains(c.Values, Value{f.Path, textOf(v)})
			}) {
				return false
			}
		}
		return true
	}
	for _, list := range e.filters {
		if len(list) > 0 && !slices.ContainsFunc(list, matches) {
			return false
		}
	}
	return !slices.ContainsFunc(e.excluded, matches)
}

// fill decodes and checks what a cell runs.
func (e *expansion) fill(c *Cell, kind string, base strictyaml.Part, file string, sets []setting) error {
	replaced := make([]strictyaml.Replacement, len(sets))
	for i, s := range sets {
		replaced[i] = strictyaml.Replacement{Path: s.Path, Value: s.Value}
	}
	if kind != Train {
		comp, ok := e.checks.Computations[kind]
		if !ok {
			known := append(slices.Sorted(maps.Keys(e.checks.Computations)), Train)
			want := "one of " + strings.Join(known, ", ")
			if near := suggest.Closest(kind, known); near != "" {
				want += "; did you mean " + near + "?"
			}
			return fielderr.New(e.at+"kind", kind, want)
		}
		var holder struct {
			Params map[string]any `yaml:"params"`
		}
		for i := range replaced {
			replaced[i].Path = "params." + replaced[i].Path
		}
		all := append([]strictyaml.Replacement{{Path: "params", Value: base}}, replaced...)
		src, err := strictyaml.Part{}.Decode(all, &holder)
		if err != nil {
			return err
		}
		c.Params = holder.Params
		if c.Params == nil {
			c.Params = map[string]any{}
		}
		if comp.Check != nil {
			if err := comp.Check(c.Params); err != nil {
				return src.Locate(fielderr.Prefix("params", err))
			}
		}
		if comp.Version > 0 {
			kind = fmt.Sprintf("%s, version %d", kind, comp.Version)
		}
		return c.digest(kind, e.named)
	}
	spec, src, err := job.Decode(file, base, replaced)
	if err != nil {
		return err
	}
	if err := spec.Resolve(func(field string) string { return e.folder(field, file, sets) }); err != nil {
		return err
	}
	c.Spec, c.Budget = spec, float64(spec.Train.Updates)
	if e.checks.Job != nil {
		err := e.checks.Job(spec)
		var fault *fielderr.Error
		switch {
		case errors.As(err, &fault) && fault.Path == "loss.normaliser":
			c.Refused = fault.Want // such as leave_one_out outside the alpha family
		case err != nil:
			return src.Locate(err)
		}
	}
	if e.checks.Mesh {
		kind += " on a mesh"
	}
	return c.digest(kind, e.named)
}

// folder is that of the file in which a cell's field is written: the study, where it
// sets the field, or what it is part of, and otherwise that of the base.
func (e *expansion) folder(field, base string, sets []setting) string {
	for _, s := range sets {
		if s.Path == field || strings.HasPrefix(field, s.Path+".") {
			return e.study.dir
		}
	}
	return filepath.Dir(base)
}

// seeds reads a number of seeds, counted from 0, or a list of them.
func (e *expansion) seeds(given strictyaml.Part) ([]uint64, error) {
	bad := func() error {
		return given.Fault(fielderr.New("seeds", quoted(textOf(given)), fmt.Sprintf("a number of seeds from 1 to %d, or a list of different ones", maxSeeds)))
	}
	v, err := given.Value()
	if err != nil {
		return nil, err
	}
	var out []uint64
	switch v := v.(type) {
	case nil:
		return []uint64{0}, nil
	case int64:
		if v < 1 || v > maxSeeds {
			return nil, bad()
		}
		for i := range v {
			out = append(out, uint64(i))
		}
	case []any:
		for _, item := range v {
			i, ok := item.(int64)
			if !ok || i < 0 || slices.Contains(out, uint64(i)) || len(out) == maxSeeds {
				return nil, bad()
			}
			out = append(out, uint64(i))
		}
	}
	if len(out) == 0 {
		return nil, bad()
	}
	return out, nil
}

// quoted is a value that messages show without quotes.
type quoted string

// textOf writes a value as it would stand in a file, on one line.
func textOf(p strictyaml.Part) string {
	v, err := p.Value()
	if err != nil {
		return "?"
	}
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return v
	}
	data, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(data)
}
