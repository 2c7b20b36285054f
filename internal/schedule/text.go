package schedule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

const wantText = "a number, or kind:from:to:updates such as linear:0.75:1.2:3000"

// String returns the notation that Parse reads: "0.5", "cosine:0.75:1.2:3000",
// "linear:1:0:500:100" (begins at update 100); "" for the unset Value.
func (v Value) String() string {
	switch v.Kind {
	case "":
		return ""
	case Constant:
		return number(v.From)
	}
	s := fmt.Sprintf("%s:%s:%s:%d", v.Kind, number(v.From), number(v.To), v.Over)
	if v.Start != 0 {
		s += ":" + strconv.FormatInt(v.Start, 10)
	}
	return s
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// Parse reads the notation of String. The result is validated; errors are
// *fielderr.Error.
func Parse(text string) (Value, error) {
	fault := fielderr.New("", text, wantText)
	parts := strings.Split(strings.TrimSpace(text), ":")
	var v Value
	var err error
	switch {
	case len(parts) == 1:
		v.Kind = Constant
		v.From, err = parseNumber(parts[0])
	case len(parts) == 2 && Kind(parts[0]) == Constant:
		v.Kind = Constant
		v.From, err = parseNumber(parts[1])
	case len(parts) == 4 || len(parts) == 5:
		v, err = parseChange(parts)
	default:
		return Value{}, fault
	}
	if err != nil {
		return Value{}, fault
	}
	if err := v.Validate(); err != nil {
		return Value{}, err
	}
	return v, nil
}

func parseChange(parts []string) (v Value, err error) {
	v.Kind = Kind(parts[0])
	if v.From, err = parseNumber(parts[1]); err != nil {
		return v, err
	}
	if v.To, err = parseNumber(parts[2]); err != nil {
		return v, err
	}
	if v.Over, err = strconv.ParseInt(parts[3], 10, 64); err != nil {
		return v, err
	}
	if len(parts) == 5 {
		v.Start, err = strconv.ParseInt(parts[4], 10, 64)
	}
	if v.Kind == Constant || v.Kind == "" {
		err = strconv.ErrSyntax // neither has two ends
	}
	return v, err
}

func parseNumber(s string) (float64, error) {
	x, err := strconv.ParseFloat(s, 64)
	if err == nil && (math.IsNaN(x) || math.IsInf(x, 0)) {
		err = strconv.ErrRange
	}
	return x, err
}

// mapping is the written form of a schedule. Over and Start are numbers of
// updates; From and To start as NaN so that Validate can name a missing one.
type mapping struct {
	Kind  Kind    `json:"kind" yaml:"kind"`
	From  float64 `json:"from" yaml:"from"`
	To    float64 `json:"to" yaml:"to"`
	Over  int64   `json:"over" yaml:"over"`
	Start int64   `json:"start,omitempty" yaml:"start,omitempty"`
}

func (m mapping) value() (Value, error) {
	v := Value(m)
	if m.Kind == Constant {
		return Value{}, fielderr.New("kind", string(m.Kind), "linear, cosine or exponential; write a constant as a plain number")
	}
	if m.Kind == "" {
		return Value{}, fielderr.New("kind", nil, "linear, cosine or exponential")
	}
	return v, v.Validate()
}

func emptyMapping() mapping { return mapping{From: math.NaN(), To: math.NaN()} }

// written returns what a Value looks like in JSON and YAML.
func (v Value) written() any {
	switch v.Kind {
	case "":
		return nil
	case Constant:
		return v.From
	}
	return mapping(v)
}

// MarshalJSON writes a number, a mapping {kind, from, to, over, start}, or null.
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal(v.written()) }

// UnmarshalJSON reads a number, a mapping, the text form of Parse, or null.
// Unknown keys are errors. The result is validated.
func (v *Value) UnmarshalJSON(data []byte) error {
	var raw any
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	return v.read(raw, func(m *mapping) error {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		return dec.Decode(m)
	})
}

// MarshalYAML implements goccy/go-yaml's InterfaceMarshaler: as MarshalJSON.
func (v Value) MarshalYAML() (any, error) { return v.written(), nil }

// UnmarshalYAML implements goccy/go-yaml's InterfaceUnmarshaler: as
// UnmarshalJSON. The decoder's own strictness applies to the mapping.
func (v *Value) UnmarshalYAML(unmarshal func(any) error) error {
	var raw any
	if err := unmarshal(&raw); err != nil {
		return err
	}
	return v.read(raw, func(m *mapping) error { return unmarshal(m) })
}

func (v *Value) read(raw any, decode func(*mapping) error) (err error) {
	switch x := raw.(type) {
	case nil:
		*v = Value{}
	case float64:
		*v = Const(x)
		err = v.Validate()
	case int64:
		*v = Const(float64(x))
	case uint64:
		*v = Const(float64(x))
	case string:
		*v, err = Parse(x)
	case map[string]any:
		m := emptyMapping()
		if err := decode(&m); err != nil {
			return err
		}
		*v, err = m.value()
	default:
		return fielderr.New("", fmt.Sprint(raw), wantText)
	}
	return err
}

// JSONSchema describes the accepted forms to editors.
func (Value) JSONSchema() *jsonschema.Schema {
	props := jsonschema.NewProperties()
	props.Set("kind", &jsonschema.Schema{Type: "string", Enum: []any{Linear, Cosine, Exponential}})
	props.Set("from", &jsonschema.Schema{Type: "number", Description: "value up to update start"})
	props.Set("to", &jsonschema.Schema{Type: "number", Description: "value from update start+over on"})
	props.Set("over", &jsonschema.Schema{Type: "integer", Minimum: "1", Description: "updates between the two"})
	props.Set("start", &jsonschema.Schema{Type: "integer", Minimum: "0", Description: "update at which the change begins"})
	return &jsonschema.Schema{
		Description: "a number, or a schedule over updates",
		OneOf: []*jsonschema.Schema{
			{Type: "number"},
			{Type: "string", Pattern: "^\\s*[^\\s].*$", Description: "kind:from:to:updates, such as linear:0.75:1.2:3000"},
			{
				Type:                 "object",
				Properties:           props,
				Required:             []string{"kind", "from", "to", "over"},
				AdditionalProperties: jsonschema.FalseSchema,
			},
		},
	}
}
