package experiment

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/strictyaml"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

const maxClaims = 64 // of a part

// claim is what a study says of two groups of cells before it is run.
type claim struct {
	Text   string    `yaml:",key"`
	Source string    `yaml:"source"`
	Metric string    `yaml:"metric"`
	Of     []setting `yaml:"of"`
	Expect string    `yaml:"expect"`
	Than   []setting `yaml:"than"`
}

// Claim says how a metric of some cells shall be beside that of others. Every cell that
// Of matches is compared with the one that has the values of Than and is equal to it
// otherwise.
type Claim struct {
	Text   string   `json:"text"`
	Source string   `json:"source,omitempty"` // who says so, such as "the paper"; "" for the study itself
	Metric string   `json:"metric"`           // or a time
	Of     []Filter `json:"of"`
	Expect string   `json:"expect"`
	Than   []Value  `json:"than"`
}

// Filter is a choice of values on one axis.
type Filter struct {
	Axis   string   `json:"axis"`
	Values []string `json:"values"`
}

// What a claim may expect.
const (
	Less    = "less"
	More    = "more"
	NotLess = "not less" // by more than the part's margin
	NotMore = "not more"
)

var expectations = []string{Less, More, NotLess, NotMore}

// values lists those of a filter, which is one value or a list of them.
func (s setting) values() []strictyaml.Part {
	if list, ok := s.Value.Items(); ok {
		return list
	}
	return []strictyaml.Part{s.Value}
}

// plan makes a claim for a plan; it was checked before.
func (c claim) plan() Claim {
	out := Claim{Text: c.Text, Source: c.Source, Metric: c.Metric, Expect: c.Expect}
	for _, f := range c.Of {
		filter := Filter{Axis: f.Path}
		for _, v := range f.values() {
			filter.Values = append(filter.Values, textOf(v))
		}
		out.Of = append(out.Of, filter)
	}
	for _, f := range c.Than {
		out.Than = append(out.Than, Value{f.Path, textOf(f.Value)})
	}
	return out
}

// checkClaims finds claims about what no set of the study has.
func (d *document) checkClaims() error {
	if len(d.Parts) == 0 {
		return d.section.checkClaims("", d.valuesOf("", &d.section))
	}
	var errs []error
	if len(d.Claims) > 0 {
		errs = append(errs, fielderr.New("claims", len(d.Claims), "none here, for they are about the axes of one part: write them there"))
	}
	for _, p := range d.Parts {
		sec := p.section.over(d.section)
		errs = append(errs, sec.checkClaims("parts."+p.Name+".", d.valuesOf(p.Name, &sec)))
	}
	return errors.Join(errs...)
}

// axisValues are the axes of a part with the texts of all values that some set gives them.
type axisValues struct {
	axes   []string
	values map[string][]string
}

func (a *axisValues) add(axis string, values ...string) {
	if a.values == nil {
		a.values = map[string][]string{}
	}
	if !slices.Contains(a.axes, axis) {
		a.axes = append(a.axes, axis)
	}
	for _, v := range values {
		if !slices.Contains(a.values[axis], v) {
			a.values[axis] = append(a.values[axis], v)
		}
	}
}

func (d *document) valuesOf(part string, sec *section) *axisValues {
	out := &axisValues{}
	for _, v := range sec.Variants {
		out.add(VariantAxis, v.Name)
	}
	add := func(axes []axis) {
		for _, a := range axes {
			for _, v := range a.Values {
				out.add(a.Path, textOf(v))
			}
		}
	}
	add(sec.Axes)
	for _, set := range d.Sets {
		for _, c := range set.Parts {
			if c.Name == part {
				add(c.Axes)
			}
		}
	}
	return out
}

func (c *section) checkClaims(at string, known *axisValues) error {
	var errs []error
	if len(c.Claims) > maxClaims {
		errs = append(errs, fielderr.New(at+"claims", len(c.Claims), fmt.Sprintf("at most %d claims", maxClaims)))
	}
	for _, q := range c.Claims {
		at := at + "claims." + q.Text
		if !oneLine(q.Text) || q.Source != "" && !oneLine(q.Source) {
			errs = append(errs, fielderr.New(at, q.Text, fmt.Sprintf("a sentence, and a source, of 1 to %d bytes on one line", maxVariant)))
		}
		if !slices.Contains(expectations, q.Expect) {
			errs = append(errs, fielderr.New(at+".expect", orMissing(q.Expect), "one of "+strings.Join(expectations, ", ")))
		}
		errs = append(errs, c.checkClaimed(at, q.Metric), known.check(at+".of", q.Of, true), known.check(at+".than", q.Than, false))
		if plan := q.plan(); known.same(plan) {
			errs = append(errs, fielderr.New(at+".than", plan.Than[0].Text, "another value than all cells of have: they would be compared with themselves"))
		}
	}
	return errors.Join(errs...)
}

// checkClaimed finds a metric that the part does not report. What a computation
// reports is only known when it was run.
func (c *section) checkClaimed(at, metric string) error {
	names := slices.Clone(c.Metrics)
	for _, t := range c.Times {
		names = append(names, t.Name)
	}
	computed := c.Kind != "" && c.Kind != Train && len(names) == 0
	if slices.Contains(names, metric) || computed && metricName.MatchString(metric) {
		return nil
	}
	want := "a metric or a time of the part"
	if len(names) > 0 {
		want += ": " + strings.Join(names, ", ")
	}
	if near := suggest.Closest(metric, names); near != "" {
		want += "; did you mean " + near + "?"
	}
	return fielderr.New(at+".metric", orMissing(metric), want)
}

// check finds filters on what is no axis, and values that no axis has.
func (a *axisValues) check(at string, filters []setting, lists bool) error {
	if len(filters) == 0 {
		return fielderr.New(at, nil, `axes with values, such as {loss.divergence: "alpha:1"}`)
	}
	var errs []error
	fault := func(f setting, v strictyaml.Part, got, what string, known []string) {
		want := what + ": " + strings.Join(known, ", ")
		if near := suggest.Closest(got, known); near != "" {
			want += "; did you mean " + near + "?"
		}
		errs = append(errs, v.Fault(fielderr.New(at+"."+f.Path, got, want)))
	}
	for _, f := range filters {
		if !slices.Contains(a.axes, f.Path) {
			fault(f, f.Value, f.Path, "an axis of the part", a.axes)
			continue
		}
		values := f.values()
		if len(values) == 0 {
			fault(f, f.Value, textOf(f.Value), "values of the axis", a.values[f.Path])
		}
		if _, isList := f.Value.Items(); isList && !lists {
			errs = append(errs, f.Value.Fault(fielderr.New(at+"."+f.Path, quoted(textOf(f.Value)), "one value: each cell is compared with one other")))
			continue
		}
		for _, v := range values {
			if text := textOf(v); !slices.Contains(a.values[f.Path], text) {
				fault(f, v, text, "a value of the axis", a.values[f.Path])
			}
		}
	}
	return errors.Join(errs...)
}

// same says whether a claim compares cells with themselves: those that it is about can
// have no other values than those it compares them with.
func (a *axisValues) same(c Claim) bool {
	return len(c.Than) > 0 && !slices.ContainsFunc(c.Than, func(v Value) bool {
		if !slices.Contains(a.axes, v.Axis) { // a fault of its own
			return true
		}
		can := a.values[v.Axis]
		if i := slices.IndexFunc(c.Of, func(f Filter) bool { return f.Axis == v.Axis }); i >= 0 {
			can = c.Of[i].Values
		}
		return slices.ContainsFunc(can, func(text string) bool { return text != v.Text })
	})
}
