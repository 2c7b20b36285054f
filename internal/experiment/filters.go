package experiment

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

// checkFilters finds filters that name no axis of any part: they would match
// nothing, and an exclude that matches nothing is not noticed.
func (d *document) checkFilters() error {
	axes := d.axisNames()
	var errs []error
	check := func(at string, filters [][]setting) {
		for i, filter := range filters {
			for _, f := range filter {
				if slices.Contains(axes, f.Path) {
					continue
				}
				want := "an axis of the study: " + strings.Join(axes, ", ")
				if near := suggest.Closest(f.Path, axes); near != "" {
					want += "; did you mean " + near + "?"
				}
				errs = append(errs, f.Value.Fault(fielderr.New(fmt.Sprintf("%s[%d].%s", at, i, f.Path), f.Path, want)))
			}
		}
	}
	check("select", d.Select)
	check("exclude", d.Exclude)
	for _, p := range d.Parts {
		check("parts."+p.Name+".select", p.Select)
		check("parts."+p.Name+".exclude", p.Exclude)
	}
	for _, set := range d.Sets {
		check("sets."+set.Name+".select", set.Select)
		check("sets."+set.Name+".exclude", set.Exclude)
		for _, c := range set.Parts {
			at := "sets." + set.Name + ".parts." + c.Name
			check(at+".select", c.Select)
			check(at+".exclude", c.Exclude)
		}
	}
	return errors.Join(errs...)
}

// axisNames are the axes of all parts, in whatever set, in alphabetical order.
func (d *document) axisNames() []string {
	var out []string
	add := func(axes []axis) {
		for _, a := range axes {
			out = append(out, a.Path)
		}
	}
	section := func(s *section) {
		add(s.Axes)
		if len(s.Variants) > 0 {
			out = append(out, VariantAxis)
		}
	}
	section(&d.section)
	for i := range d.Parts {
		section(&d.Parts[i].section)
	}
	for _, set := range d.Sets {
		for _, c := range set.Parts {
			add(c.Axes)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
