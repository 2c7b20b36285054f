package params

import "reflect"

// maxList is the longest list of numbers that a parameter takes.
const maxList = 4096

// Floats binds a list of numbers; a single number is a list of one.
func Floats(name string, p *[]float64, doc string) Binding {
	return Binding{name, doc, floatsTarget{p}}
}

type floatsTarget struct{ p *[]float64 }

func (t floatsTarget) kind() string { return "list of numbers" }
func (t floatsTarget) want() string { return "a list of numbers, such as [0.7, 0.3]" }
func (t floatsTarget) get() any     { return *t.p }

// set accepts a slice of anything that Float accepts.
func (t floatsTarget) set(v any) bool {
	if x, ok := number(plain(v)); ok {
		*t.p = []float64{x}
		return true
	}
	list := reflect.ValueOf(v)
	if list.Kind() != reflect.Slice || list.Len() > maxList {
		return false
	}
	out := make([]float64, list.Len())
	for i := range out {
		x, ok := number(plain(list.Index(i).Interface()))
		if !ok {
			return false
		}
		out[i] = x
	}
	*t.p = out
	return true
}
