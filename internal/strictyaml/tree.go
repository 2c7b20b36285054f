package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a document. The parser takes time quadratic in the tokens and
// cubic in the depth, so both are checked on the tokens, before it starts.
const (
	maxTokens = 20_000
	maxDepth  = 64
)

// place is where something was written: in the file (set 0), or in the value
// of the set-th override. Line and column count from 1; zero means unknown.
// doc is 0 but for what was put in from another file.
type place struct{ set, line, col, doc int }

// before orders places as a reader meets them: the file, then the overrides.
func (p place) before(q place) bool {
	switch {
	case p.set != q.set:
		return p.set < q.set
	case p.doc != q.doc:
		return p.doc < q.doc
	case p.line != q.line:
		return p.line < q.line
	}
	return p.col < q.col
}

// node is a value of the document. Its value is nil, a bool, int64, uint64,
// float64 or string, []*node for a list, or []entry for a mapping.
type node struct {
	at    place
	value any
	// broken marks what could not be read and has its fault already.
	broken bool
	// plain is the text of an unquoted scalar, for messages.
	plain string
}

type entry struct {
	key   string
	at    place // of the key
	value *node
}

// child returns the value under a key of a mapping, or nil.
func (n *node) child(key string) *node {
	entries, _ := n.value.([]entry)
	for _, e := range entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// given is what a message shows as the value of a node.
func (n *node) given() any {
	switch v := n.value.(type) {
	case nil:
		return nil
	case []entry:
		return shape("a mapping")
	case []*node:
		return shape("a list")
	case string:
		return v
	}
	return shape(n.plain)
}

// shape is text that messages show without quotes.
type shape string

// builder turns the parser's tree into nodes and collects every fault that
// leaves a tree behind, so that one mistake does not hide the next.
type builder struct {
	set    int
	faults []locatedError
}

// locatedError is an error and the place it is about.
type locatedError struct {
	at  place
	err error
}

func (b *builder) fault(at place, format string, args ...any) {
	b.faults = append(b.faults, locatedError{at, fmt.Errorf(format, args...)})
}

func (b *builder) place(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{set: b.set}
	}
	return place{set: b.set, line: t.Position.Line, col: t.Position.Column}
}

// parse returns the tree of a text with exactly one document, nil when there
// is none or the text is not YAML.
func (b *builder) parse(text string) *node {
	if i := invalidUTF8(text); i >= 0 {
		b.fault(placeOf(b.set, text, i), "not UTF-8 text")
		return nil
	}
	text = strings.TrimPrefix(text, "\ufeff") // editors on Windows write a byte order mark
	tokens := lexer.Tokenize(text)
	if !b.bounded(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // duplicates are found here, all of them
	if err != nil {
		b.syntax(err)
		return nil
	}
	var root *node
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if _, ok := doc.Body.(*ast.DirectiveNode); ok {
			continue
		}
		if root != nil {
			b.fault(b.place(doc.Body.GetToken()), "a second YAML document; want a single one")
			break
		}
		root = b.node(doc.Body, "", 0)
	}
	return root
}

func (b *builder) bounded(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		b.fault(b.place(tokens[maxTokens]), "too many values; want at most %d tokens of YAML", maxTokens)
		return false
	}
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			if depth++; depth > maxDepth {
				b.tooDeep(t)
				return false
			}
		case token.MappingEndType, token.SequenceEndType:
			depth--
		}
	}
	return true
}

func (b *builder) tooDeep(t *token.Token) {
	b.fault(b.place(t), "nested too deeply; want at most %d levels", maxDepth)
}

func (b *builder) syntax(err error) {
	var y yaml.Error
	if !errors.As(err, &y) {
		b.fault(place{set: b.set}, "not YAML: %w", err)
		return
	}
	msg := y.GetMessage()
	if strings.Contains(msg, "'\t'") {
		msg = "a tab in the indentation; want spaces"
	}
	b.fault(b.place(y.GetToken()), "not YAML: %s", msg)
}

// node converts one node; path is for messages. A construct that these files
// do not have is a fault and leaves a broken node behind.
func (b *builder) node(n ast.Node, path string, depth int) *node {
	if n == nil {
		return &node{at: place{set: b.set}}
	}
	out := &node{at: b.place(n.GetToken())}
	if depth > maxDepth {
		b.tooDeep(n.GetToken())
		out.broken = true
		return out
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		out.value = b.mapping(n.Values, path, depth)
		if len(n.Values) > 0 && !n.IsFlowStyle {
			out.at = b.place(n.Values[0].Key.GetToken()) // the token of a block mapping is its first colon
		}
	case *ast.MappingValueNode:
		out.value = b.mapping([]*ast.MappingValueNode{n}, path, depth)
		out.at = b.place(n.Key.GetToken())
	case *ast.SequenceNode:
		items := make([]*node, 0, len(n.Values))
		for i, v := range n.Values {
			items = append(items, b.node(v, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
		out.value = items
	case *ast.LiteralNode:
		out.value = n.Value.Value
	case *ast.AnchorNode, *ast.AliasNode:
		out.broken = true
		b.fault(out.at, "anchors and aliases are not supported; write the value out")
	case *ast.TagNode:
		out.broken = true
		b.fault(out.at, "tags such as %s are not supported; write the plain value", n.GetToken().Value)
	case ast.ScalarNode:
		b.scalar(out, n.GetToken())
	default:
		out.broken = true
		b.fault(out.at, "%s is not supported here", n.Type().YAMLName())
	}
	return out
}

func (b *builder) mapping(values []*ast.MappingValueNode, path string, depth int) []entry {
	entries := make([]entry, 0, len(values))
	seen := make(map[string]place, len(values))
	for _, v := range values {
		tok := v.Key.GetToken()
		at := b.place(tok)
		if _, complexKey := v.Key.(*ast.MappingKeyNode); complexKey || v.Key.IsMergeKey() {
			b.fault(at, "merge keys and complex keys are not supported; want a plain name")
			continue
		}
		key := tok.Value
		if first, dup := seen[key]; dup {
			b.fault(at, "%s: given twice, first in line %d", joinPath(path, key), first.line)
			continue
		}
		seen[key] = at
		entries = append(entries, entry{key, at, b.node(v.Value, joinPath(path, key), depth+1)})
	}
	return entries
}

// YAML 1.2, core schema (section 10.3.2). The parser itself resolves numbers
// by other rules: 010 is eight there, and 1e3 a string.
var (
	integerText = regexp.MustCompile(`^[-+]?[0-9]+$`)
	floatText   = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	infText     = regexp.MustCompile(`^[-+]?\.(inf|Inf|INF)$`)
)

func (b *builder) scalar(out *node, t *token.Token) {
	switch t.Type {
	case token.SingleQuoteType, token.DoubleQuoteType:
		out.value = t.Value
		return
	}
	out.plain = t.Value
	out.value = resolve(t.Value)
}

// resolve gives a plain scalar its type.
func resolve(s string) any {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return nil
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
		return false
	case ".nan", ".NaN", ".NAN":
		return math.NaN()
	}
	base, digits := 10, s
	if d, ok := strings.CutPrefix(s, "0x"); ok {
		base, digits = 16, d
	} else if d, ok := strings.CutPrefix(s, "0o"); ok {
		base, digits = 8, d
	}
	if base != 10 || integerText.MatchString(s) {
		if i, err := strconv.ParseInt(digits, base, 64); err == nil {
			return i
		}
		if u, err := strconv.ParseUint(digits, base, 64); err == nil {
			return u
		}
	}
	switch {
	case floatText.MatchString(s):
		x, _ := strconv.ParseFloat(s, 64) // out of range is ±Inf, which every field refuses
		return x
	case infText.MatchString(s):
		if s[0] == '-' {
			return math.Inf(-1)
		}
		return math.Inf(1)
	}
	return s
}

func invalidUTF8(s string) int {
	if utf8.ValidString(s) {
		return -1
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return i
			}
		}
	}
	return -1
}

func placeOf(set int, text string, offset int) place {
	head := text[:offset]
	return place{set: set, line: 1 + strings.Count(head, "\n"), col: offset - strings.LastIndexByte(head, '\n')}
}
