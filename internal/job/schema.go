package job

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"

	"github.com/invopop/jsonschema"

	"github.com/driftmesh/driftmesh/internal/schedule"
)

// Schema returns the JSON Schema (draft 2020-12) of a job file, indented:
// structure from the types, meaning and ranges from the table of fields,
// default values from Default.
func Schema() ([]byte, error) {
	r := &jsonschema.Reflector{
		Anonymous:                  true,
		ExpandedStruct:             true,
		RequiredFromJSONSchemaTags: true, // a job file may leave out nearly everything
		Namer: func(t reflect.Type) string {
			if t == reflect.TypeFor[schedule.Value]() {
				return "Schedule"
			}
			return ""
		},
	}
	root := r.Reflect(&Spec{})
	root.Title = "Driftmesh job"
	root.Description = "What to learn, with which loss, from which behaviour, and when to stop."
	describe(root, root.Definitions, "", reflect.ValueOf(Default()).Elem())

	root.Properties.Value("name").Pattern = namePattern
	root.Properties.Value("name").MaxLength = size(maxName)
	env := root.Definitions["Env"].Properties
	env.Value("name").Pattern = namePattern
	env.Value("name").MaxLength = size(maxName)
	hidden := root.Definitions["Policy"].Properties.Value("hidden")
	hidden.MaxItems = size(maxLayers) // a transformer, written out, has none
	member := root.Definitions["Loss"].Properties.Value("divergence")
	member.MinLength, member.MaxLength = size(1), size(maxMember)

	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return append(out, '\n'), nil
}

func size(n uint64) *uint64 { return &n }

// describe adds to the schema of a struct what the table of fields knows.
func describe(s *jsonschema.Schema, defs jsonschema.Definitions, path string, defaults reflect.Value) {
	for i := range defaults.NumField() {
		name := yamlName(defaults.Type().Field(i))
		at := joinPath(path, name)
		f, prop, value := fields[at], s.Properties.Value(name), defaults.Field(i)
		prop.Description = f.doc
		if f.required {
			s.Required = append(s.Required, name)
		}
		if t := value.Type(); t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && t.Elem() != reflect.TypeFor[schedule.Value]() {
			describe(defs[t.Elem().Name()], defs, at, reflect.New(t.Elem()).Elem()) // optional as a whole
			continue
		}
		for _, e := range f.enum {
			prop.Enum = append(prop.Enum, e)
		}
		if section, ok := sectionOf(value); ok {
			describe(defs[section.Type().Name()], defs, at, section)
			continue
		}
		if !value.IsZero() || value.CanInt() || value.CanFloat() {
			prop.Default = value.Interface()
		}
		switch value.Kind() {
		case reflect.String, reflect.Map:
		case reflect.Slice:
			if prop.Items.Type != "string" {
				f.bound(prop.Items)
			}
		default:
			f.bound(prop)
		}
	}
}

// sectionOf returns the struct that a field is, or would point to, unless that is
// a schedule.
func sectionOf(value reflect.Value) (section reflect.Value, ok bool) {
	t := value.Type()
	if t.Kind() == reflect.Pointer {
		t, value = t.Elem(), reflect.Zero(t.Elem()) // absent by default
	}
	return value, t.Kind() == reflect.Struct && t != reflect.TypeFor[schedule.Value]()
}

// bound writes the range. Beside the reference to a schedule it applies where
// the schedule is a plain number; the program also checks the other forms.
func (f field) bound(s *jsonschema.Schema) {
	num := func(x float64) json.Number {
		if math.IsInf(x, 0) {
			return "" // left out
		}
		return json.Number(strconv.FormatFloat(x, 'f', -1, 64))
	}
	if f.above {
		s.ExclusiveMinimum = num(f.min)
	} else {
		s.Minimum = num(f.min)
	}
	if f.below {
		s.ExclusiveMaximum = num(f.max)
	} else {
		s.Maximum = num(f.max)
	}
}
