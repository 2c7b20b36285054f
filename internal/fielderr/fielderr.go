// Package fielderr carries "which field, which value, what would be right" from
// the place that finds a fault to the place that knows the file and line.
package fielderr

import (
	"errors"
	"fmt"
)

// Error is a fault in one field of a user's input.
type Error struct {
	Path  string // dotted path, such as "env.params.height"
	Value any    // what was given; nil when the field is missing
	Want  string // what would be right, such as "an integer of at least 2"
}

func (e *Error) Error() string {
	if e.Value == nil {
		return fmt.Sprintf("%s: missing; want %s", e.Path, e.Want)
	}
	return fmt.Sprintf("%s: got %v; want %s", e.Path, quote(e.Value), e.Want)
}

func quote(v any) any {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return v
}

// New returns an Error.
func New(path string, value any, want string) error {
	return &Error{Path: path, Value: value, Want: want}
}

// Prefix returns err with every Error inside it (through errors.Join too)
// moved under path; other errors are wrapped with the path.
func Prefix(path string, err error) error {
	if err == nil {
		return nil
	}
	if all := parts(err); all != nil {
		out := make([]error, len(all))
		for i, e := range all {
			out[i] = Prefix(path, e)
		}
		return errors.Join(out...)
	}
	var fe *Error
	if errors.As(err, &fe) {
		moved := *fe
		if moved.Path == "" {
			moved.Path = path
		} else {
			moved.Path = path + "." + moved.Path
		}
		if _, several := err.(interface{ Unwrap() []error }); several {
			return &placed{&moved, err}
		}
		return &moved
	}
	return fmt.Errorf("%s: %w", path, err)
}

// placed is an Error that came with another, such as a sentinel, in one message.
type placed struct{ field, with error }

func (p *placed) Error() string   { return p.field.Error() }
func (p *placed) Unwrap() []error { return []error{p.field, p.with} }

// parts are what errors.Join joined; nil for any other error, also for one of
// fmt.Errorf with several %w, which is one message.
func parts(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || errors.Join(joined.Unwrap()...).Error() != err.Error() {
		return nil
	}
	return joined.Unwrap()
}
