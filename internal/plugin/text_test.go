package plugin

import (
	"strings"
	"testing"
)

// TestTextsCommandNoTerminal: what a plugin says may hold anything.
func TestTextsCommandNoTerminal(t *testing.T) {
	if got := Printable("C\x1b[2J=O\n\u009bé"); got != `C\x1b[2J=O\n\u009bé` {
		t.Errorf("Printable gives %q", got)
	}
	long := strings.Repeat("é", maxText)
	if got := Printable(long); got != long {
		t.Errorf("Printable cuts %d bytes to %d", len(long), len(got))
	}
	if got := Plain(long); got != long[:maxText]+"…" {
		t.Errorf("Plain cuts to %d bytes, ending in %q", len(got), got[max(0, len(got)-4):])
	}
}
