package strictyaml

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Part is a value of a document that is kept to be decoded later, perhaps many
// times over with some of its fields replaced. A struct field of this type
// takes any value. The zero Part stands for a value that was not given.
type Part struct {
	file string // the document's name, as messages show it
	node *node
}

// Document reads a whole document as one Part. Errors are as those of Parse.
func Document(name string, data []byte) (Part, error) {
	var whole struct {
		Root Part `yaml:"root"`
	}
	src := &Source{name: name, places: map[string]place{}, broken: map[string]bool{}}
	b := &builder{}
	root := b.parse(string(data))
	if root == nil || root.value == nil {
		if len(b.faults) == 0 {
			b.faults = append(b.faults, locatedError{place{}, ErrEmpty})
		}
		return whole.Root, src.join(b.faults)
	}
	if len(b.faults) > 0 {
		return whole.Root, src.join(b.faults)
	}
	return Part{file: name, node: root}, nil
}

// Given says whether the document has the value.
func (p Part) Given() bool { return p.node != nil && p.node.value != nil }

// Text returns the value if it is text.
func (p Part) Text() (string, bool) {
	if p.node == nil {
		return "", false
	}
	s, ok := p.node.value.(string)
	return s, ok
}

// IsMapping says whether the value is a mapping.
func (p Part) IsMapping() bool {
	if p.node == nil {
		return false
	}
	_, ok := p.node.value.([]entry)
	return ok
}

// Items returns the parts of a list, and whether the value is one.
func (p Part) Items() ([]Part, bool) {
	if p.node == nil {
		return nil, false
	}
	items, ok := p.node.value.([]*node)
	out := make([]Part, len(items))
	for i, n := range items {
		out[i] = Part{p.file, n}
	}
	return out, ok
}

// Value converts the part as a field of type map[string]any would hold it:
// nil, bool, int64, float64, string, []any or map[string]any. Numbers that such
// a field refuses are faults.
func (p Part) Value() (any, error) {
	if p.node == nil {
		return nil, nil
	}
	d := &decoder{}
	v := d.any(p.node, "")
	src := &Source{name: p.file}
	return v, src.join(d.faults)
}

// Fault says what is wrong with the part, with its place.
func (p Part) Fault(err error) error {
	f := &Fault{File: p.file, Err: err}
	if p.node != nil {
		f.Line, f.Column, f.at = p.node.at.line, p.node.at.col, p.node.at
	}
	return f
}

// Replacement puts a value at a dotted path of a part before it is decoded.
type Replacement struct {
	Path  string
	Value Part
}

// Decode decodes the part into out, as Parse does a document, with values
// replaced, in order; mappings on the way to a path are made where they are
// missing. The source knows the place of every value in the document that it
// came from. The part itself does not change.
func (p Part) Decode(replaced []Replacement, out any) (*Source, error) {
	src := &Source{name: p.file, places: map[string]place{}, broken: map[string]bool{}}
	root := &node{value: []entry{}}
	if p.node != nil {
		root = p.node.clone(0)
	}
	d := &decoder{target: reflect.TypeOf(out).Elem(), file: p.file}
	if _, ok := root.value.([]entry); !ok {
		d.wrong(root, "", "a mapping with "+strings.Join(names(d.target), ", "))
		return src, src.join(d.faults)
	}
	for _, r := range replaced {
		doc := src.document(r.Value.file)
		value := &node{at: place{doc: doc}}
		if r.Value.node != nil {
			value = r.Value.node.clone(doc)
		}
		keys := strings.Split(r.Path, ".")
		if slices.Contains(keys, "") || len(keys) > maxDepth {
			d.faults = append(d.faults, locatedError{value.at, fmt.Errorf("%q is no dotted path, such as train.batch", r.Path)})
			continue
		}
		at := root
		for _, key := range keys[:len(keys)-1] {
			at = at.step(key, value.at)
		}
		at.put(keys[len(keys)-1], value.at, value)
	}
	src.root = root
	src.index(root, "")
	d.decode(root, "", reflect.ValueOf(out).Elem())
	return src, src.join(d.faults)
}

// document is the number by which places of the source name a file.
func (s *Source) document(file string) int {
	if file == s.name || file == "" {
		return 0
	}
	if i := slices.Index(s.others, file); i >= 0 {
		return i + 1
	}
	s.others = append(s.others, file)
	return len(s.others)
}

func (n *node) clone(doc int) *node {
	out := *n
	out.at.doc = doc
	switch v := n.value.(type) {
	case []entry:
		entries := make([]entry, len(v))
		for i, e := range v {
			e.at.doc = doc
			entries[i] = entry{e.key, e.at, e.value.clone(doc)}
		}
		out.value = entries
	case []*node:
		items := make([]*node, len(v))
		for i, item := range v {
			items[i] = item.clone(doc)
		}
		out.value = items
	}
	return &out
}

var partType = reflect.TypeFor[Part]()

// keyed returns the number of the field of a struct that takes the key where a
// list of such structs is written as a mapping, and that of the field that takes
// the value; a value of −1 stands for all other fields. Tags are ",key" and ",value".
func keyed(t reflect.Type) (key, value int, ok bool) {
	key, value = -1, -1
	if t.Kind() != reflect.Struct {
		return key, value, false
	}
	for i := range t.NumField() {
		switch t.Field(i).Tag.Get("yaml") {
		case ",key":
			key = i
		case ",value":
			value = i
		}
	}
	return key, value, key >= 0
}

// table decodes a mapping into a list of structs that keep their keys, in the
// order of the document.
func (d *decoder) table(n *node, path string, v reflect.Value) {
	if n.value == nil {
		return
	}
	entries, ok := n.value.([]entry)
	if !ok {
		d.wrong(n, path, "a mapping of names to values")
		return
	}
	key, value, _ := keyed(v.Type().Elem())
	out := reflect.MakeSlice(v.Type(), len(entries), len(entries))
	faults := len(d.faults)
	for i, e := range entries {
		item := out.Index(i)
		item.Field(key).SetString(e.key)
		if value >= 0 {
			item = item.Field(value)
		}
		d.decode(e.value, joinPath(path, e.key), item)
	}
	if len(d.faults) == faults {
		v.Set(out)
	}
}
