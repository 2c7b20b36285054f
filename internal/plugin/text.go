package plugin

import (
	"strconv"
	"strings"
	"unicode"
)

// maxText is how much of a plugin's text is quoted, in bytes.
const maxText = 500

// Plain is what a plugin says as part of a message: short, in one line, and without
// anything that a terminal would obey. All that is quoted of plugins goes through it.
func Plain(text string) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() >= maxText {
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
