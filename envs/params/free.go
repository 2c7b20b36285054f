package params

import (
	"maps"
	"slices"
)

// Texts binds a list of texts, such as a command.
func Texts(name string, p *[]string, doc string) Binding { return Binding{name, doc, textsTarget{p}} }

// Map binds a mapping that is handed on as it is.
func Map(name string, p *map[string]any, doc string) Binding { return Binding{name, doc, mapTarget{p}} }

type textsTarget struct{ p *[]string }

func (t textsTarget) kind() string { return "texts" }
func (t textsTarget) want() string { return "a list of texts" }
func (t textsTarget) get() any     { return slices.Clone(*t.p) }

func (t textsTarget) set(v any) bool {
	var out []string
	switch list := v.(type) {
	case []string:
		out = slices.Clone(list)
	case []any:
		for _, item := range list {
			s, ok := item.(string)
			if !ok {
				return false
			}
			out = append(out, s)
		}
	default:
		return false
	}
	*t.p = out
	return true
}

type mapTarget struct{ p *map[string]any }

func (t mapTarget) kind() string { return "mapping" }
func (t mapTarget) want() string { return "a mapping" }
func (t mapTarget) get() any     { return maps.Clone(*t.p) }

func (t mapTarget) set(v any) bool {
	m, ok := v.(map[string]any)
	if ok {
		*t.p = maps.Clone(m)
	}
	return ok
}
