package experiment

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

// rowNames are what a training may tell of itself: the fields of runs.Row, and what
// derive makes of them.
func rowNames() []string {
	out := []string{"log_z_error", "log_z_is_abs_error", "eval_log_z_abs_error"}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[runs.Row]()) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			out = append(out, name)
		}
	}
	return out
}

// checkNames finds metrics of trainings that no row will ever have: their columns and
// figures would be empty, their times never reached.
func (e *expansion) checkNames() error {
	names := rowNames()
	var errs []error
	check := func(field, name string) {
		if outer, _, _ := strings.Cut(name, "."); slices.Contains(names, outer) {
			return
		}
		want := "a field of metrics.jsonl, such as tv"
		if near := suggest.Closest(name, names); near != "" {
			want += "; did you mean " + near + "?"
		}
		if at := e.at + field; e.study.source.Given(at) {
			field = at
		}
		errs = append(errs, fielderr.New(field, name, want))
	}
	for i, m := range e.section.Metrics {
		check(fmt.Sprintf("metrics[%d]", i), m)
	}
	for i, m := range e.section.Figures {
		check(fmt.Sprintf("figures[%d]", i), m)
	}
	for i, m := range e.section.Higher {
		check(fmt.Sprintf("higher[%d]", i), m)
	}
	for _, t := range e.section.Times {
		when, err := parseCondition(t.When)
		if err != nil {
			return fielderr.Prefix("times."+t.Name+".when", err)
		}
		for _, c := range when {
			check("times."+t.Name+".when", c.left)
			if !c.isNumber {
				check("times."+t.Name+".when", c.right)
			}
		}
	}
	return errors.Join(errs...)
}
