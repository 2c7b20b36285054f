package job

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// checker of the keywords that Schema uses; an unknown keyword is an error, so
// that the schema cannot outgrow it in silence.
type schemaChecker struct{ defs map[string]any }

func (c schemaChecker) check(at string, schema any, v any) error {
	s, ok := schema.(map[string]any)
	if !ok {
		if schema == false {
			return fmt.Errorf("%s: not allowed", at)
		}
		return nil
	}
	for key, want := range s {
		if err := c.keyword(at, s, key, want, v); err != nil {
			return err
		}
	}
	return nil
}

func (c schemaChecker) keyword(at string, s map[string]any, key string, want, v any) error {
	fail := func() error { return fmt.Errorf("%s: %v breaks %s %v", at, v, key, want) }
	object, isObject := v.(map[string]any)
	list, isList := v.([]any)
	text, isText := v.(string)
	number, isNumber := v.(float64)
	bound, _ := want.(float64)
	switch key {
	case "$schema", "$defs", "title", "description", "default":
	case "$ref":
		return c.check(at, c.defs[strings.TrimPrefix(want.(string), "#/$defs/")], v)
	case "type":
		ok := map[string]bool{
			"object": isObject, "array": isList, "string": isText, "number": isNumber,
			"integer": isNumber && number == math.Trunc(number),
		}[want.(string)]
		if !ok {
			return fail()
		}
	case "properties":
		for name, sub := range want.(map[string]any) {
			if value, given := object[name]; given {
				if err := c.check(at+"."+name, sub, value); err != nil {
					return err
				}
			}
		}
	case "additionalProperties":
		props, _ := s["properties"].(map[string]any)
		for name, value := range object {
			if _, known := props[name]; !known {
				if err := c.check(at+"."+name, want, value); err != nil {
					return err
				}
			}
		}
	case "required":
		for _, name := range want.([]any) {
			if _, given := object[name.(string)]; isObject && !given {
				return fail()
			}
		}
	case "items":
		for i, item := range list {
			if err := c.check(fmt.Sprintf("%s[%d]", at, i), want, item); err != nil {
				return err
			}
		}
	case "oneOf":
		matches := 0
		for _, sub := range want.([]any) {
			if c.check(at, sub, v) == nil {
				matches++
			}
		}
		if matches != 1 {
			return fail()
		}
	case "enum":
		for _, e := range want.([]any) {
			if reflect.DeepEqual(e, v) {
				return nil
			}
		}
		return fail()
	case "pattern":
		if isText && !regexp.MustCompile(want.(string)).MatchString(text) {
			return fail()
		}
	default:
		broken, known := map[string]bool{
			"minimum":          isNumber && number < bound,
			"maximum":          isNumber && number > bound,
			"exclusiveMinimum": isNumber && number <= bound,
			"exclusiveMaximum": isNumber && number >= bound,
			"minLength":        isText && float64(len(text)) < bound,
			"maxLength":        isText && float64(len(text)) > bound,
			"minItems":         isList && float64(len(list)) < bound,
			"maxItems":         isList && float64(len(list)) > bound,
		}[key]
		if !known {
			return fmt.Errorf("%s: the schema has a keyword %q that this test does not know", at, key)
		}
		if broken {
			return fail()
		}
	}
	return nil
}

func loadSchema(t *testing.T) (schemaChecker, map[string]any) {
	t.Helper()
	data, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	return schemaChecker{schema["$defs"].(map[string]any)}, schema
}

// asJSON turns YAML into what a validator in an editor sees.
func asJSON(t *testing.T, text []byte) any {
	t.Helper()
	data, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestExamples(t *testing.T) {
	check, schema := loadSchema(t)
	readme, err := os.ReadFile("../../examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(paths) < 5 {
		t.Fatalf("examples are missing: %v, %v", paths, err)
	}
	for _, path := range paths {
		base := filepath.Base(path)
		s, _, err := Load(path, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := strings.TrimSuffix(base, ".yaml"); s.Name != want {
			t.Errorf("%s names its run %s", base, s.Name)
		}
		if !strings.Contains(string(readme), "`"+base+"`") {
			t.Errorf("the README of the examples does not mention %s", base)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := check.check(base, schema, asJSON(t, data)); err != nil {
			t.Errorf("schema: %v", err)
		}
		resolved, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := check.check(base+", resolved", schema, asJSON(t, resolved)); err != nil {
			t.Errorf("schema: %v", err)
		}
	}
}

func TestSchemaRefusesWhatParseRefuses(t *testing.T) {
	check, schema := loadSchema(t)
	for _, name := range []string{"unknown-field", "wrong-type", "negative-rate", "unknown-enum", "bad-schedule", "ranges", "unsafe-name", "no-environment", "top-level-list"} {
		data, err := os.ReadFile("testdata/bad/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if check.check(name, schema, asJSON(t, data)) == nil {
			t.Errorf("the schema accepts %s.yaml", name)
		}
	}
}

// TestSchemaDescribesEverything holds what editors show on hover.
func TestSchemaDescribesEverything(t *testing.T) {
	check, schema := loadSchema(t)
	objects := map[string]any{"job": schema}
	for name, def := range check.defs {
		objects[name] = def
	}
	for name, o := range objects {
		object := o.(map[string]any)
		if name != "Schedule" && object["additionalProperties"] != false {
			t.Errorf("%s allows unknown fields", name)
		}
		props, _ := object["properties"].(map[string]any)
		for field, p := range props {
			if d, _ := p.(map[string]any)["description"].(string); d == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
	batch := check.defs["Train"].(map[string]any)["properties"].(map[string]any)["batch"].(map[string]any)
	if batch["default"] != 16.0 || batch["minimum"] != 1.0 {
		t.Errorf("train.batch: %v", batch)
	}
}
