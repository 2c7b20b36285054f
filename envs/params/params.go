// Package params decodes the parameters of an environment from the loosely
// typed maps that YAML and JSON leave behind, strictly: an unknown name, a wrong
// type or a fraction where an integer belongs is a fault of that field.
package params

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

// Binding ties a parameter's name to the variable that receives it. The
// variable's value at the time of binding is the default.
type Binding struct {
	name, doc string
	target    target
}

// Info describes a parameter to people.
type Info struct {
	Name    string `json:"name"`
	Type    string `json:"type"` // integer, number, text, file, …
	Default any    `json:"default"`
	Doc     string `json:"doc"`
}

// target is a typed variable. set reports whether the value fits its type.
type target interface {
	kind() string
	want() string
	get() any
	set(v any) bool
}

// Int binds an integer parameter. Integral floats, such as 8.0, are accepted.
func Int(name string, p *int, doc string) Binding { return Binding{name, doc, intTarget{p}} }

// Float binds a number; integers are accepted.
func Float(name string, p *float64, doc string) Binding { return Binding{name, doc, floatTarget{p}} }

// Text binds a string parameter.
func Text(name string, p *string, doc string) Binding { return Binding{name, doc, textTarget{p}} }

// File binds a parameter that names a file.
func File(name string, p *string, doc string) Binding {
	return Binding{name, doc, fileTarget{textTarget{p}}}
}

// Decode writes the given values to the bound variables; parameters not given
// keep their defaults. All faults are reported, joined and in the order of
// their names, as *fielderr.Error with the parameter's name for a path.
func Decode(bindings []Binding, given map[string]any) error {
	names := make([]string, 0, len(given))
	for name := range given {
		names = append(names, name)
	}
	slices.Sort(names)
	var faults []error
	for _, name := range names {
		i := slices.IndexFunc(bindings, func(b Binding) bool { return b.name == name })
		switch {
		case i < 0:
			faults = append(faults, unknown(bindings, name, given[name]))
		case !bindings[i].target.set(given[name]):
			faults = append(faults, fielderr.New(name, given[name], bindings[i].target.want()))
		}
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

// Values returns the present value of every bound variable, by name.
func Values(bindings []Binding) map[string]any {
	out := make(map[string]any, len(bindings))
	for _, b := range bindings {
		out[b.name] = b.target.get()
	}
	return out
}

// Describe lists the bindings with their present values as defaults.
func Describe(bindings []Binding) []Info {
	out := make([]Info, len(bindings))
	for i, b := range bindings {
		out[i] = Info{Name: b.name, Type: b.target.kind(), Default: b.target.get(), Doc: b.doc}
	}
	return out
}

func unknown(bindings []Binding, name string, value any) error {
	known := make([]string, len(bindings))
	for i, b := range bindings {
		known[i] = b.name
	}
	if value == nil { // fielderr would call a nil value missing
		value = "null"
	}
	return fielderr.New(name, value, "no such parameter; "+OneOf(name, known))
}

type fileTarget struct{ textTarget }

func (t fileTarget) kind() string { return "file" }

type intTarget struct{ p *int }

func (t intTarget) kind() string { return "integer" }
func (t intTarget) want() string { return "an integer" }
func (t intTarget) get() any     { return *t.p }

func (t intTarget) set(v any) bool {
	n, ok := integer(plain(v))
	if ok {
		*t.p = n
	}
	return ok
}

type floatTarget struct{ p *float64 }

func (t floatTarget) kind() string { return "number" }
func (t floatTarget) want() string { return "a number" }
func (t floatTarget) get() any     { return *t.p }

func (t floatTarget) set(v any) bool {
	x, ok := number(plain(v))
	if ok {
		*t.p = x
	}
	return ok
}

type textTarget struct{ p *string }

func (t textTarget) kind() string { return "text" }
func (t textTarget) want() string { return "a text" }
func (t textTarget) get() any     { return *t.p }

func (t textTarget) set(v any) bool {
	s, ok := v.(string)
	if ok {
		*t.p = s
	}
	return ok
}

// exponential is a float of YAML's core schema that has an exponent.
var exponential = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$`)

// plain turns numbers in textual guise into floats: json.Number, and 1e-3,
// which the YAML decoder hands over as a text for want of a decimal point.
func plain(v any) any {
	text, ok := v.(string)
	if n, isNumber := v.(json.Number); isNumber {
		text = string(n)
	} else if !ok || !exponential.MatchString(text) {
		return v
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return v
	}
	return x
}

// integer converts every integer kind, and integral floats up to 2^53.
func integer(v any) (int, bool) {
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return int(r.Int()), int64(int(r.Int())) == r.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return int(r.Uint()), r.Uint() <= math.MaxInt
	case reflect.Float32, reflect.Float64:
		x := r.Float()
		return int(x), x == math.Trunc(x) && math.Abs(x) <= 1<<53
	}
	return 0, false
}

// number converts every integer and float kind.
func number(v any) (float64, bool) {
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return float64(r.Int()), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return float64(r.Uint()), true
	case reflect.Float32, reflect.Float64:
		return r.Float(), true
	}
	return 0, false
}

// OneOf is the "what would be right" of a name that is not among known: the
// nearest known name when one is close enough to be a slip, and all of them.
func OneOf(name string, known []string) string {
	all := "one of " + strings.Join(known, ", ")
	if near := suggest.Closest(name, known); near != "" {
		return fmt.Sprintf("%s (did you mean %q?)", all, near)
	}
	return all
}
