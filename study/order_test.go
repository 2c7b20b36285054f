package study

import (
	"math"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/experiment"
)

func sure(values ...float64) (out []Estimate) {
	for _, v := range values {
		out = append(out, certain(v))
	}
	return out
}

// TestRisesAddUp: many steps that are each below the slack are a rise all the same.
func TestRisesAddUp(t *testing.T) {
	about := func(half float64, values ...float64) (out []Estimate) {
		for _, v := range values {
			out = append(out, Estimate{Mean: v, Low: v - half, High: v + half, N: 5})
		}
		return out
	}
	names := []string{"-1", "0", "0.5", "1", "2"}
	for _, c := range []struct {
		name   string
		values []Estimate
		want   string
	}{
		{"small rises, then a fall", about(0.001, 0.3076, 0.3082, 0.3097, 0.3115, 0.2664), "is mixed: it rises by 0.0039 (from -1 to 1) and falls by 0.0451 (from 1 to 2)"},
		{"small rises in wide intervals", about(0.004, 0.3076, 0.3082, 0.3097, 0.3115, 0.2664), "falls with alpha, by 0.0451 in all: the order holds"},
		{"small rises only", sure(0.3076, 0.3082, 0.3097, 0.3115, 0.3116), "rises with alpha, by 0.0040 in all: the order is reversed"},
		{"small falls only", sure(0.3116, 0.3115, 0.3097, 0.3082, 0.3076), "falls with alpha, by 0.0040 in all: the order holds"},
		{"a rise after a fall", sure(0.5, 0.1, 0.101, 0.102, 0.1031), "is mixed: it rises by 0.0031 (from 0 to 2) and falls by 0.4000 (from -1 to 0)"},
		{"noise", sure(0.3, 0.301, 0.3, 0.301, 0.3), "stays the same"},
		{"one seed", []Estimate{{Mean: 0.1, High: math.Inf(1), N: 1}, {Mean: 0.9, High: math.Inf(1), N: 1}}, "stays the same"},
		{"a cell without a fit", sure(0.3, math.NaN(), 0.2, 0.1, 0.1), "falls with alpha, by 0.2000 in all: the order holds; 1 of 5 values is unknown"},
		{"one value only", sure(0.3, math.NaN(), math.NaN(), math.NaN()), "is unknown: so are 3 of 4 values"},
		{"no value", sure(math.NaN(), math.NaN()), "is unknown: so are 2 of 2 values"},
		{"two alike", sure(0.3, 0.3, math.NaN(), math.NaN()), "stays the same; 2 of 4 values are unknown"},
	} {
		got := along(names[:len(c.values)], c.values, slack).say("the mass")
		if want := "the mass " + c.want; got != want {
			t.Errorf("%s: got %q, want %q", c.name, got, want)
		}
	}
}

// TestStoredTablesAreConcludedAnew: what a table of an earlier version says of itself
// is replaced by what its rows say.
func TestStoredTablesAreConcludedAnew(t *testing.T) {
	rows := [][]any{}
	for i, mass := range []float64{0.3076, 0.3082, 0.3097, 0.3115, 0.2664} {
		alpha := []float64{-1, 0, 0.5, 1, 2}[i]
		rows = append(rows, []any{"replay", "exact", 4.0, alpha, mass, 0.0, 1.0, 0.0, mass, mass - 0.001, mass + 0.001, 5.0, 0.0})
	}
	table := &experiment.Table{
		Columns: behaviourColumns, Rows: rows, Values: map[string]float64{"order_holds": 1},
		Notes: []string{"replay, exact, separation 4: the trained smaller mass falls with alpha, by 0.0450 in all: the order holds"},
	}
	Behaviours(nil).Conclude(table)
	if len(table.Notes) != 2 || !strings.Contains(table.Notes[1], "the trained smaller mass is mixed") {
		t.Errorf("notes %q", table.Notes)
	}
	if table.Values["order_holds"] != 0 || table.Values["order_mixed"] != 1 {
		t.Errorf("values %v", table.Values)
	}

	rows = nil
	for i, mass := range []float64{0.31, 0.3115, 0.313, 0.02} {
		rows = append(rows, []any{4.0, float64(i), mass, 0.0, 1.0, 0.1, 1.0, mass, mass, mass - 1e-4, mass + 1e-4, 5.0, 0.0})
	}
	table = &experiment.Table{Columns: onPolicyColumns, Rows: rows, Values: map[string]float64{"order_holds": 1}}
	OnPolicy(nil).Conclude(table)
	if table.Values["order_holds"] != 0 || math.Abs(table.Values["largest_rise"]-0.003) > 1e-12 || len(table.Notes) != 2 {
		t.Errorf("%v, notes %q", table.Values, table.Notes)
	}
}

// TestUnknownMassesHoldNoOrder: a line with a mass that is not known counts as mixed.
func TestUnknownMassesHoldNoOrder(t *testing.T) {
	var behaviours, onPolicy [][]any
	for i, mass := range []any{0.3, nil, 0.2} {
		behaviours = append(behaviours, []any{"replay", "exact", 4.0, float64(i), mass, 0.0, 1.0, 0.0, nil, nil, nil, 0.0, 5.0})
		onPolicy = append(onPolicy, []any{4.0, float64(i), mass, 0.0, 1.0, 0.1, 1.0, mass, nil, nil, nil, 0.0, 5.0})
	}
	table := &experiment.Table{Columns: behaviourColumns, Rows: behaviours}
	Behaviours(nil).Conclude(table)
	if v := table.Values; v["order_holds"] != 0 || v["order_reversed"] != 0 || v["order_mixed"] != 1 || !strings.HasSuffix(table.Notes[0], "; 1 of 3 values is unknown") {
		t.Errorf("values %v, notes %q", v, table.Notes)
	}
	table = &experiment.Table{Columns: onPolicyColumns, Rows: onPolicy}
	OnPolicy(nil).Conclude(table)
	if v := table.Values; v["order_holds"] != 0 || !strings.HasSuffix(table.Notes[0], "; 1 of 3 values is unknown") {
		t.Errorf("values %v, notes %q", v, table.Notes)
	}
}
