package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

// ErrUnknownField is wrapped by the fault of a field that does not exist.
var ErrUnknownField = errors.New("unknown field")

// ErrEmpty is wrapped by the fault of a document without any value.
var ErrEmpty = errors.New("the file is empty; want a YAML mapping")

// Parse decodes a YAML document into out, a pointer to a struct whose fields
// have yaml tags. What the document does not mention keeps its value in out,
// so out holds the defaults. Overrides are "path=value" with a dotted path and
// a YAML value, applied in order; they replace what stands at the path.
//
// The source is never nil. The error joins *Fault, one line each, ordered by
// place: syntax, unknown fields (ErrUnknownField, with a suggestion), values
// of the wrong type (fielderr.Error). A field at fault keeps its default.
//
// Field types: string, int, int64, uint64, float64, bool, lists of them,
// map[string]any, structs, schedule.Value, Part, and pointers to them (null
// clears those). A list of structs of which a string field has the tag
// yaml:",key" is written as a mapping: each entry is a struct, or its field with
// the tag yaml:",value". Numbers are finite. In a map[string]any, whole numbers
// are int64, also when written 8.0, because JSON does not tell the two apart;
// other numbers are float64.
func Parse(name string, data []byte, overrides []string, out any) (*Source, error) {
	src := &Source{name: name, sets: slices.Clone(overrides), places: map[string]place{}, broken: map[string]bool{}}
	b := &builder{}
	root := b.parse(string(data))
	if root != nil && root.value == nil && !root.broken {
		root = nil // comments only, or a lone null
	}
	if root == nil && len(b.faults) == 0 {
		b.faults = append(b.faults, locatedError{place{}, ErrEmpty})
	}
	if root == nil {
		// Overrides alone are no document, and their faults would be noise.
		return src, src.join(b.faults)
	}
	d := &decoder{target: reflect.TypeOf(out).Elem(), file: name}
	if _, ok := root.value.([]entry); !ok {
		if !root.broken {
			d.wrong(root, "", "a mapping with "+strings.Join(names(d.target), ", "))
		}
		return src, src.join(append(b.faults, d.faults...))
	}
	for i, set := range overrides {
		b.set = i + 1
		b.override(root, set)
	}
	src.root = root
	src.index(root, "")
	d.faults = b.faults
	d.decode(root, "", reflect.ValueOf(out).Elem())
	return src, src.join(d.faults)
}

type decoder struct {
	faults []locatedError
	target reflect.Type // what the whole document decodes to
	file   string       // its name, for parts
}

func (d *decoder) wrong(n *node, path, want string) {
	if path == "" {
		d.faults = append(d.faults, locatedError{n.at, fmt.Errorf("got %v; want %s", n.given(), want)})
		return
	}
	d.faults = append(d.faults, locatedError{n.at, fielderr.New(path, n.given(), want)})
}

var scheduleType = reflect.TypeFor[schedule.Value]()

func (d *decoder) decode(n *node, path string, v reflect.Value) {
	if n.broken {
		return
	}
	if v.Type() == scheduleType {
		d.schedule(n, path, v)
		return
	}
	if v.Type() == partType {
		v.Set(reflect.ValueOf(Part{d.file, n}))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		d.pointer(n, path, v)
	case reflect.Struct:
		d.mapping(n, path, v)
	case reflect.Slice:
		if _, _, ok := keyed(v.Type().Elem()); ok {
			d.table(n, path, v)
			return
		}
		d.list(n, path, v)
	case reflect.Map:
		d.free(n, path, v)
	case reflect.String:
		if s, ok := n.value.(string); ok {
			v.SetString(s)
			return
		}
		want := "text"
		if n.plain != "" {
			want = fmt.Sprintf("text; to mean the text, quote it: %q", n.plain)
		}
		d.wrong(n, path, want)
	case reflect.Int, reflect.Int64:
		if i, ok := integer(n.value); ok {
			v.SetInt(i)
			return
		}
		d.wrong(n, path, "an integer")
	case reflect.Uint64:
		if u, ok := n.value.(uint64); ok {
			v.SetUint(u)
		} else if i, ok := integer(n.value); ok && i >= 0 {
			v.SetUint(uint64(i))
		} else {
			d.wrong(n, path, "an integer of at least 0")
		}
	case reflect.Bool:
		if b, ok := n.value.(bool); ok {
			v.SetBool(b)
			return
		}
		d.wrong(n, path, "true or false")
	case reflect.Float64:
		if x, ok := number(n.value); ok {
			v.SetFloat(x)
			return
		}
		d.wrong(n, path, "a finite number")
	default:
		panic("strictyaml: no rule for the type " + v.Type().String()) // the caller's struct, never the document
	}
}

// integer accepts 6e3 and 8.0 for the integers that they are.
func integer(value any) (int64, bool) {
	switch x := value.(type) {
	case int64:
		return x, true
	case float64:
		return int64(x), x == math.Trunc(x) && math.Abs(x) <= 1<<53
	}
	return 0, false
}

func number(value any) (float64, bool) {
	switch x := value.(type) {
	case int64:
		return float64(x), true
	case uint64:
		return float64(x), true
	case float64:
		return x, !math.IsNaN(x) && !math.IsInf(x, 0)
	}
	return 0, false
}

func (d *decoder) pointer(n *node, path string, v reflect.Value) {
	if n.value == nil {
		v.SetZero()
		return
	}
	target := reflect.New(v.Type().Elem())
	faults := len(d.faults)
	d.decode(n, path, target.Elem())
	if len(d.faults) == faults {
		v.Set(target)
	}
}

func (d *decoder) list(n *node, path string, v reflect.Value) {
	items, ok := n.value.([]*node)
	if !ok {
		d.wrong(n, path, "a list"+listExample(n, v.Type().Elem()))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	faults := len(d.faults)
	for i, item := range items {
		d.decode(item, fmt.Sprintf("%s[%d]", path, i), out.Index(i))
	}
	if len(d.faults) == faults {
		v.Set(out)
	}
}

// word is a text that a list holds without quotes.
var word = regexp.MustCompile(`^[A-Za-z_./-][\w./-]*$`)

// listExample continues "a list" with one of such elements: of texts, the words that
// were given.
func listExample(n *node, elem reflect.Type) string {
	switch {
	case elem.Kind() == reflect.Int:
		return ", such as [256, 256]"
	case elem == partType && n.plain != "": // a number, say
		return ", such as [" + n.plain + "]"
	case elem.Kind() == reflect.String || elem == partType:
		text, _ := n.value.(string)
		words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
		if len(words) == 0 || len(words) > 8 || slices.ContainsFunc(words, func(w string) bool { return !word.MatchString(w) }) {
			return ", such as [first, second]"
		}
		return ", such as [" + strings.Join(words, ", ") + "]"
	case elem.Kind() == reflect.Slice:
		return " of mappings, each an item that begins with a dash"
	}
	return ""
}

// mapping decodes a struct. A section with nothing in it (all of its lines
// commented out, say) is null in YAML and keeps its defaults.
func (d *decoder) mapping(n *node, path string, v reflect.Value) {
	if n.value == nil {
		return
	}
	entries, ok := n.value.([]entry)
	if !ok {
		d.wrong(n, path, "a mapping with "+strings.Join(names(v.Type()), ", "))
		return
	}
	for _, e := range entries {
		fields := fieldsOf(v.Type())
		i := slices.IndexFunc(fields, func(f fieldOf) bool { return f.name == e.key })
		if i < 0 {
			d.unknown(e, path, v.Type())
			continue
		}
		d.decode(e.value, joinPath(path, e.key), v.FieldByIndex(fields[i].index))
	}
}

// fieldOf is a field of a struct that documents name. An embedded struct
// without a tag has its fields in the same mapping as its owner's.
type fieldOf struct {
	name  string
	index []int
}

func fieldsOf(t reflect.Type) []fieldOf {
	var out []fieldOf
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("yaml")
		if f.Anonymous && tag == "" {
			for _, inner := range fieldsOf(f.Type) {
				out = append(out, fieldOf{inner.name, append([]int{i}, inner.index...)})
			}
			continue
		}
		if name, _, _ := strings.Cut(tag, ","); name != "" && name != "-" {
			out = append(out, fieldOf{name, []int{i}})
		}
	}
	return out
}

// names lists the fields of a struct as the document writes them.
func names(t reflect.Type) []string {
	var out []string
	for _, f := range fieldsOf(t) {
		out = append(out, f.name)
	}
	return out
}

func (d *decoder) unknown(e entry, path string, t reflect.Type) {
	hint := "want " + strings.Join(names(t), ", ")
	if c := suggest.Closest(e.key, names(t)); c != "" {
		hint = "did you mean " + c + "?"
	} else if elsewhere := find(d.target, "", e.key); elsewhere != "" {
		hint = "did you mean " + elsewhere + "?"
	}
	d.faults = append(d.faults, locatedError{e.at, fmt.Errorf("%s: %w; %s", joinPath(path, e.key), ErrUnknownField, hint)})
}

// find returns the path of a field of that very name anywhere in t, or "".
func find(t reflect.Type, path, name string) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == scheduleType || t == partType {
		return ""
	}
	for _, f := range fieldsOf(t) {
		if f.name == name {
			return joinPath(path, name)
		}
		if p := find(t.FieldByIndex(f.index).Type, joinPath(path, f.name), name); p != "" {
			return p
		}
	}
	return ""
}

func (d *decoder) free(n *node, path string, v reflect.Value) {
	if n.value == nil {
		return
	}
	if _, ok := n.value.([]entry); !ok {
		d.wrong(n, path, "a mapping of names to values")
		return
	}
	faults := len(d.faults)
	if m := d.any(n, path); len(d.faults) == faults {
		v.Set(reflect.ValueOf(m))
	}
}

// any converts a value without a declared type.
func (d *decoder) any(n *node, path string) any {
	switch x := n.value.(type) {
	case []entry:
		out := make(map[string]any, len(x))
		for _, e := range x {
			out[e.key] = d.any(e.value, joinPath(path, e.key))
		}
		return out
	case []*node:
		out := make([]any, len(x))
		for i, item := range x {
			out[i] = d.any(item, fmt.Sprintf("%s[%d]", path, i))
		}
		return out
	case uint64:
		d.wrong(n, path, "an integer below 2^63")
		return nil
	case float64:
		if _, ok := number(x); !ok {
			d.wrong(n, path, "a finite number")
			return nil
		}
		return Whole(x)
	}
	return n.value
}

// Whole returns x as an int64 when it is one, and as it is otherwise.
func Whole(x float64) any {
	if x == math.Trunc(x) && math.Abs(x) < 1<<63 {
		return int64(x)
	}
	return x
}
