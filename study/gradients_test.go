package study_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/study"
)

// TestOnPolicyGradientIsThatOfTheDivergence: the theorem of f-TB for every
// member in every listed environment; the networks are float32.
func TestOnPolicyGradientIsThatOfTheDivergence(t *testing.T) {
	var rows strings.Builder // every word of three letters, with any value
	rows.WriteString("sequence,value\n")
	for i := range 64 {
		fmt.Fprintf(&rows, "%c%c%c,%v\n", "ACGT"[i/16], "ACGT"[i/4%4], "ACGT"[i%4], 0.1+float64(i*i%17)/17)
	}
	file := filepath.Join(t.TempDir(), "words.csv")
	if err := os.WriteFile(file, []byte(rows.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := study.Gradients().Run(context.Background(), map[string]any{"networks": 1, "table": file}, 7)
	if err != nil {
		t.Fatal(err)
	}
	if want := (len(study.Cases()) + 1) * len(losses.Table()); len(table.Rows) != want {
		t.Fatalf("%d rows, want %d", len(table.Rows), want)
	}
	for _, row := range table.Rows {
		if worst, ok := row[8].(float64); !ok || worst > 1e-5 {
			t.Errorf("%v", row)
		}
	}
	t.Log(strings.Join(table.Notes, "\n"))
}
