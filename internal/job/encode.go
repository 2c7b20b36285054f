package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/driftmesh/driftmesh/internal/strictyaml"
)

// JSON returns the job as it travels: every field, on one line. Equal jobs
// give equal bytes. The error wraps ErrTooLarge above the cap of 1 MiB, and
// names a parameter that JSON cannot carry.
func (s *Spec) JSON() ([]byte, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode job %s: %w", s.Name, err)
	}
	if len(data) > maxEncoded {
		return nil, tooLarge("job " + s.Name)
	}
	return data, nil
}

// FromJSON decodes and validates what JSON wrote. It is strict: unknown fields
// and trailing data are errors, and more than 1 MiB is refused unread. A field
// that is absent, because the sender is older, has its default.
func FromJSON(data []byte) (*Spec, error) {
	if len(data) > maxEncoded {
		return nil, tooLarge("job")
	}
	spec := Default()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	dec.UseNumber() // an integer parameter stays one, beyond 2^53 too
	if err := dec.Decode(spec); err != nil {
		return nil, fmt.Errorf("decode job: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode job: data after the job")
	}
	spec.Policy.choose(givenPolicy(data))
	params, err := numbers(spec.Env.Params)
	if err != nil {
		return nil, fmt.Errorf("decode job: env.params: %w", err)
	}
	spec.Env.Params, _ = params.(map[string]any)
	if r := spec.Reward; r != nil {
		params, err := numbers(r.Params)
		if err != nil {
			return nil, fmt.Errorf("decode job: reward.params: %w", err)
		}
		r.Params, _ = params.(map[string]any)
	}
	if spec.Env.Params == nil {
		spec.Env.Params = map[string]any{}
	}
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	return spec, nil
}

// MaxSlots reads mesh.max_slots of a job that was validated when it was
// submitted, and nothing else of it; 0 where it has none.
func MaxSlots(data []byte) int {
	var spec struct {
		Mesh struct {
			MaxSlots int `json:"max_slots"`
		} `json:"mesh"`
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return 0 // its learner says what is wrong with it
	}
	return spec.Mesh.MaxSlots
}

// numbers replaces every json.Number below v, in place, by what a job file
// gives: int64 for whole numbers, float64 otherwise.
func numbers(v any) (any, error) {
	var err error
	switch x := v.(type) {
	case json.Number:
		if i, err := x.Int64(); err == nil {
			return i, nil
		}
		f, err := x.Float64()
		return strictyaml.Whole(f), err
	case []any:
		for i := range x {
			if x[i], err = numbers(x[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range x {
			if x[k], err = numbers(x[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// YAML returns the job with every field written out, for the run's folder.
// Parse reads it back as it was.
func (s *Spec) YAML() ([]byte, error) {
	data, err := yaml.MarshalWithOptions(s, yaml.IndentSequence(true), yaml.CustomMarshaler(quote), yaml.CustomMarshaler(dotted))
	if err != nil {
		return nil, fmt.Errorf("encode job %s: %w", s.Name, err)
	}
	return data, nil
}

// plainWord is text that no reader of YAML, of any version, takes for anything else.
var plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z_-]*[A-Za-z]$`)

// quote writes texts in double quotes unless they are plain words: the library
// leaves some bare that YAML 1.2 reads as numbers, such as 1e3. A JSON string
// is a YAML string.
func quote(text string) ([]byte, error) {
	switch strings.ToLower(text) {
	case "true", "false", "null", "yes", "no", "on", "off":
	default:
		if plainWord.MatchString(text) {
			return []byte(text), nil
		}
	}
	return json.Marshal(text)
}

// dotted writes a number with a point: readers of YAML 1.1 take 1e-08 for text.
func dotted(x float64) ([]byte, error) {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if mantissa, exponent, ok := strings.Cut(s, "e"); ok && !strings.Contains(mantissa, ".") {
		s = mantissa + ".0e" + exponent
	} else if !strings.Contains(s, ".") {
		s += ".0"
	}
	return []byte(s), nil
}
