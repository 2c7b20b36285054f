package suggest

import (
	"strings"
	"testing"
)

func TestClosest(t *testing.T) {
	names := []string{"learning_rate", "batch", "updates", "kind", "on"}
	for given, want := range map[string]string{
		"learnign_rate": "learning_rate", "Batch": "batch", "batch_size": "batch", "update": "updates", "rate": "learning_rate",
		"knid": "kind", "xyz": "", "": "", "no": "on", strings.Repeat("x", 1000): "",
	} {
		if got := Closest(given, names); got != want {
			t.Errorf("%q is close to %q, want %q", given, got, want)
		}
	}
}
