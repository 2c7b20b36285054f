package study_test

import (
	"context"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/study"
)

// TestOnPolicyGradientIsThatOfTheDivergence: the theorem of f-TB for every
// member in every listed environment; the networks are float32.
func TestOnPolicyGradientIsThatOfTheDivergence(t *testing.T) {
	table, err := study.Gradients().Run(context.Background(), map[string]any{"networks": 2}, 7)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(study.Cases()) * len(losses.Table()); len(table.Rows) != want {
		t.Fatalf("%d rows, want %d", len(table.Rows), want)
	}
	for _, row := range table.Rows {
		if worst, ok := row[8].(float64); !ok || worst > 1e-5 {
			t.Errorf("%v", row)
		}
	}
	t.Log(strings.Join(table.Notes, "\n"))
}
