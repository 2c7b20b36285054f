package main

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestRestrictedStudy runs the short set of the study of restricted fits: the
// order of the family holds on-policy, and gradients are those of D_f.
func TestRestrictedStudy(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of training")
	}
	r := command(t, "experiment", "run", "../../examples/paper/restricted.yaml", "--use", "test", "--runs", t.TempDir())
	if r.code != exitOK {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	printed := r.stdout + r.stderr
	if !strings.Contains(printed, "order_holds 1") || !strings.Contains(printed, "0 of them diverged") {
		t.Errorf("printed\n%s", printed)
	}
	m := regexp.MustCompile(`worst_relative_error (\S+)`).FindStringSubmatch(printed)
	if m == nil {
		t.Fatalf("no gradients in\n%s", printed)
	}
	if off, err := strconv.ParseFloat(m[1], 64); err != nil || off > 1e-5 {
		t.Errorf("gradients are off by %s of their length", m[1])
	}
}
