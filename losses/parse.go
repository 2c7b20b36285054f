package losses

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

// maxSpec bounds the text of a member, and so the work of compiling it.
const maxSpec = 2000

// spec is a parsed but not yet built member.
type spec struct {
	family    family
	parameter float64
	hasParam  bool
	custom    *custom // instead of family

	temper, tail       float64
	hasTemper, hasTail bool
	linearTemper       bool
}

// Parse reads a member: a name of Table, ":" and its parameter where it has
// one, then modifiers after commas:
//
//	hellinger    alpha:0.5    huber:1    forward_kl,temper:0.5,tail:5
//	custom:g1=tanh(delta)     custom:f2=4/(1+u^2)^2,tail:3
//
// Whatever their order in the text, temper:β (or temper_linear:β) applies first
// and tail:k to its result; each may appear once. Commas inside parentheses
// belong to a custom expression. Errors are *fielderr.Error with path
// "divergence".
func Parse(text string) (Divergence, error) {
	s, err := parseSpec(text)
	if err != nil {
		return nil, err
	}
	if s.custom == nil && s.family.parameter != "" && !s.hasParam {
		return nil, fault(text, fmt.Sprintf("a number after the name, such as %s", s.family.example))
	}
	return s.build(), nil
}

func fault(text, want string) error { return fielderr.New("divergence", text, want) }

// build assembles the member; every number in s has been checked.
func (s *spec) build() Divergence {
	var d Divergence
	if s.custom != nil {
		d = s.custom
	} else {
		d = s.family.build(s.parameter)
	}
	if s.hasTemper {
		d = tempered{base: d, beta: s.temper, linear: s.linearTemper}
	}
	if s.hasTail {
		d = newTailed(d, s.tail)
	}
	return d
}

func parseSpec(text string) (*spec, error) {
	if len(text) > maxSpec {
		return nil, fault(text[:40]+"…", fmt.Sprintf("at most %d characters", maxSpec))
	}
	parts := splitTopLevel(text)
	s := new(spec)
	if err := s.readMember(text, strings.TrimSpace(parts[0])); err != nil {
		return nil, err
	}
	for _, part := range parts[1:] {
		if err := s.readModifier(strings.TrimSpace(part)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *spec) readMember(text, member string) error {
	name, arg, hasArg := strings.Cut(member, ":")
	if name == "custom" {
		return s.readCustom(text, arg)
	}
	var ok bool
	if s.family, ok = findFamily(name); !ok {
		return fault(name, "a member of the family"+meant(name, memberNames())+"; `driftmesh losses list` prints all")
	}
	if !hasArg {
		return nil
	}
	if s.family.parameter == "" {
		return fault(member, name+" without a parameter")
	}
	v, err := parseFinite(arg)
	if err != nil || s.family.positive && v <= 0 {
		return fault(member, wantParameter(s.family))
	}
	s.parameter, s.hasParam = v, true
	return nil
}

func wantParameter(f family) string {
	if f.positive {
		return fmt.Sprintf("%s:%s with %s > 0, such as %s", f.name, f.parameter, f.parameter, f.example)
	}
	return fmt.Sprintf("%s:%s with a finite number, such as %s", f.name, f.parameter, f.example)
}

func (s *spec) readCustom(text, arg string) error {
	kind, expression, ok := strings.Cut(arg, "=")
	kind, expression = strings.TrimSpace(kind), strings.TrimSpace(expression)
	if !ok || kind != "g1" && kind != "f2" {
		return fault(text, "custom:g1=<expression of delta> or custom:f2=<expression of u>")
	}
	m, err := newCustom("custom:"+kind+"="+expression, kind, expression)
	if err != nil {
		return fault(text, strings.TrimPrefix(err.Error(), "losses: "))
	}
	s.custom = m
	return nil
}

func (s *spec) readModifier(part string) error {
	name, arg, _ := strings.Cut(part, ":")
	v, err := parseFinite(arg)
	switch name {
	case "temper", "temper_linear":
		if err != nil || v <= 0 {
			return fault(part, name+":β with β > 0, such as "+name+":0.5")
		}
		if s.hasTemper {
			return fault(part, "one temper")
		}
		s.temper, s.hasTemper, s.linearTemper = v, true, name == "temper_linear"
	case "tail":
		if err != nil || v <= 0 {
			return fault(part, "tail:k with k > 0, such as tail:5")
		}
		if s.hasTail {
			return fault(part, "one tail")
		}
		s.tail, s.hasTail = v, true
	default:
		return fault(part, "a modifier tail:k, temper:β or temper_linear:β"+meant(name, []string{"tail", "temper", "temper_linear"}))
	}
	return nil
}

// meant suggests what a misspelt name was meant to be.
func meant(name string, known []string) string {
	if near := suggest.Closest(name, known); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}

func parseFinite(text string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
		err = strconv.ErrRange
	}
	return v, err
}

// splitTopLevel splits at commas outside parentheses.
func splitTopLevel(text string) []string {
	var parts []string
	depth, start := 0, 0
	for i, r := range text {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth <= 0:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

func memberNames() []string {
	names := make([]string, 0, len(families)+1)
	for _, f := range families {
		names = append(names, f.name)
	}
	return append(names, "custom")
}
