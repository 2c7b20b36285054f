package strictyaml

import (
	"slices"
	"strings"
)

// override writes the value of one "path=value" into the tree. Mappings on the
// way are made where they are missing; whether the path means anything is the
// decoder's business, which will name the override in its complaint.
func (b *builder) override(root *node, set string) {
	here := place{set: b.set}
	path, text, ok := strings.Cut(set, "=")
	path = strings.TrimSpace(path)
	if !ok || path == "" {
		b.fault(here, "want path=value, such as train.batch=32")
		return
	}
	keys := strings.Split(path, ".")
	if slices.Contains(keys, "") {
		b.fault(here, "an empty name in the path %q", path)
		return
	}
	if len(keys) > maxDepth {
		b.fault(here, "a path of at most %d names", maxDepth)
		return
	}
	faults := len(b.faults)
	value := b.parse(text)
	if len(b.faults) > faults {
		return
	}
	if value == nil {
		value = &node{at: here}
	}
	for _, key := range keys[:len(keys)-1] {
		root = root.step(key, here)
	}
	root.put(keys[len(keys)-1], here, value)
}

// step returns the mapping under a key and puts an empty one there where
// something else, or nothing, is.
func (n *node) step(key string, at place) *node {
	next := n.child(key)
	if next == nil {
		next = &node{at: at, value: []entry{}}
		n.put(key, at, next)
		return next
	}
	if _, ok := next.value.([]entry); !ok {
		next.at, next.value = at, []entry{}
	}
	return next
}

// put writes one entry of a mapping, over an earlier one of the same key.
func (n *node) put(key string, at place, value *node) {
	entries, _ := n.value.([]entry)
	for i := range entries {
		if entries[i].key == key {
			entries[i].at, entries[i].value = at, value
			return
		}
	}
	n.value = append(entries, entry{key, at, value})
}
