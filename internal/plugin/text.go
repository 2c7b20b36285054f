package plugin

import (
	"math"
	"strconv"
	"strings"
	"unicode"
)

// maxText is how much of a plugin's text is quoted, in bytes.
const maxText = 500

// Plain is what a plugin says as part of a message: short, in one line, and without
// anything that a terminal would obey. All that is quoted of plugins goes through it.
func Plain(text string) string { return printable(text, maxText) }

// Printable is Plain at any length: for the objects of plugins, which people want whole.
func Printable(text string) string { return printable(text, math.MaxInt) }

// printable stops, with a mark, once it has so many bytes.
func printable(text string, atMost int) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() >= atMost {
			return b.String() + "…"
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// plain makes the reply's own words Plain.
func (r *Reply) plain() {
	r.Error = Plain(r.Error)
	for i := range r.Errors {
		r.Errors[i].Text = Plain(r.Errors[i].Text)
	}
}
