// Package strictyaml decodes YAML files that people write. It is strict about
// fields and types, reports all faults at once with their places, suggests the
// field that was meant, and remembers where every value came from, so that
// faults found later, by code that knows nothing of files, get a line too.
package strictyaml

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Source remembers where each value of a document was written. It is
// immutable once Parse has returned.
type Source struct {
	name   string   // of the file, as messages show it
	sets   []string // the overrides, "path=value"
	others []string // further files that values came from
	root   *node
	places map[string]place // by canonical path
	broken map[string]bool  // canonical paths of values that could not be read
}

// Fault is an error with its place. It unwraps to the error itself.
type Fault struct {
	File         string // name of the file; empty when Set is given
	Set          string // the override at fault, "path=value"
	Line, Column int    // from 1; 0 where unknown. Within the value for an override
	Err          error

	at place
}

// Error is "file:line:column: message" or "--set path=value: message".
func (f *Fault) Error() string {
	switch {
	case f.Set != "":
		return fmt.Sprintf("--set %s: %v", f.Set, f.Err)
	case f.Line == 0:
		return fmt.Sprintf("%s: %v", f.File, f.Err)
	}
	return fmt.Sprintf("%s:%d:%d: %v", f.File, f.Line, f.Column, f.Err)
}

func (f *Fault) Unwrap() error { return f.Err }

// Name returns the name of the file, as given to Parse.
func (s *Source) Name() string { return s.name }

// Empty reports whether there is no document to speak of: the text was empty,
// not YAML, or not a mapping.
func (s *Source) Empty() bool { return s.root == nil }

// Given reports whether the file or an override has a value at that path.
func (s *Source) Given(path string) bool {
	_, ok := s.places[canonical(path)]
	return ok
}

// At returns the line and column (from 1) of the value at a dotted path such
// as "policy.hidden[1]" or "policy.hidden.1". What the file does not mention
// gets the place of the nearest enclosing value that it does; 0, 0 is
// unknown, or a value that came from an override.
func (s *Source) At(path string) (line, col int) {
	p := s.place(path)
	if p.set > 0 {
		return 0, 0
	}
	return p.line, p.col
}

func (s *Source) place(path string) place {
	for path = canonical(path); path != ""; path = parent(path) {
		if p, ok := s.places[path]; ok {
			return p
		}
	}
	return place{}
}

// canonical writes list indices as path elements: "hidden[1]" → "hidden.1".
func canonical(path string) string {
	if !strings.Contains(path, "[") {
		return path
	}
	path = strings.ReplaceAll(path, "[", ".")
	return strings.TrimPrefix(strings.ReplaceAll(path, "]", ""), ".")
}

// Locate returns err with every fielderr.Error in it, through errors.Join too,
// prefixed by the place where its field was written:
//
//	job.yaml:3:5: env.params.height: got 1; want an integer of at least 2
//
// Joined errors come out in the order of their places, those without any
// after the rest. A *Fault stays as it is. Faults of a field that has one
// already, or lies inside a value that has, only follow from it and are
// dropped. Of all that remains, errors.Is and errors.As see what they saw
// before.
func (s *Source) Locate(err error) error {
	if err == nil {
		return nil
	}
	all := flatten(err, nil)
	known := maps.Clone(s.broken)
	for _, e := range all {
		var fault *Fault
		var fe *fielderr.Error
		if errors.As(e, &fault) && errors.As(fault, &fe) {
			known[canonical(fe.Path)] = true
		}
	}
	var located []locatedError
	var loose []error
	for _, e := range all {
		var fault *Fault
		var fe *fielderr.Error
		switch {
		case errors.As(e, &fault):
			located = append(located, locatedError{fault.at, e})
		case !errors.As(e, &fe):
			loose = append(loose, e)
		case !covered(known, fe.Path):
			located = append(located, locatedError{s.place(fe.Path), e})
		}
	}
	return s.join(located, loose...)
}

// covered reports whether a path or one that encloses it is known.
func covered(known map[string]bool, path string) bool {
	for path = canonical(path); path != ""; path = parent(path) {
		if known[path] {
			return true
		}
	}
	return false
}

func parent(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

// flatten appends the parts of err, through errors.Join at any depth.
func flatten(err error, out []error) []error {
	parts := joined(err)
	if parts == nil {
		return append(out, err)
	}
	for _, e := range parts {
		out = flatten(e, out)
	}
	return out
}

// joined returns the parts of an errors.Join. A fmt.Errorf with several %w
// unwraps to a list as well, but its text is one message and is kept whole.
func joined(err error) []error {
	j, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	parts := j.Unwrap()
	texts := make([]string, len(parts))
	for i, e := range parts {
		texts[i] = e.Error()
	}
	if strings.Join(texts, "\n") != err.Error() {
		return nil
	}
	return parts
}

// join sorts by place, wraps each error with its own, and joins them and the
// loose ones behind; nil when there are none.
func (s *Source) join(found []locatedError, loose ...error) error {
	slices.SortStableFunc(found, func(a, b locatedError) int {
		switch {
		case a.at.before(b.at):
			return -1
		case b.at.before(a.at):
			return 1
		}
		return 0
	})
	var out []error
	for _, f := range found {
		out = append(out, s.wrap(f))
	}
	out = append(out, loose...)
	if len(out) == 1 {
		return out[0]
	}
	return errors.Join(out...)
}

func (s *Source) wrap(f locatedError) error {
	var done *Fault
	if errors.As(f.err, &done) {
		return f.err
	}
	fault := &Fault{File: s.name, Line: f.at.line, Column: f.at.col, Err: f.err, at: f.at}
	switch {
	case f.at.set > 0:
		fault.File, fault.Set = "", s.sets[f.at.set-1]
	case f.at.doc > 0:
		fault.File = s.others[f.at.doc-1]
	}
	return fault
}

// index records the place of every value below n.
func (s *Source) index(n *node, path string) {
	if path != "" {
		s.places[path] = n.at
	}
	if n.broken {
		s.broken[path] = true
	}
	switch v := n.value.(type) {
	case []entry:
		for _, e := range v {
			s.index(e.value, joinPath(path, e.key))
		}
	case []*node:
		for i, item := range v {
			s.index(item, fmt.Sprintf("%s.%d", path, i))
		}
	}
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
