package experiment

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/clock"
)

const computed = `name: computed
base: {env: {name: hypergrid}}
with: {train.batch: 8}
metrics: [tv, modes_held]
times: {close: {when: tv <= 0.1}}
figures: [tv]
seeds: 1
parts:
  squares: {kind: squares, with: {up_to: 3}}
sets:
  all: {with: {train.updates: 5}}
`

func runnerOf(t *testing.T, dir, text string, comp Computation) *Runner {
	t.Helper()
	s, err := Parse("computed.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]Computation{"squares": comp}
	p, err := s.Plan("", Checks{Computations: all})
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{Dir: dir, Plan: p, Study: s, Computations: all, Parallel: 1, Clock: clock.Real{}}
}

func squares(runs *int) Computation {
	return Computation{Run: func(_ context.Context, params map[string]any, _ uint64) (*Table, error) {
		*runs++
		return &Table{Columns: []string{"x", "y"}, Rows: [][]any{{1.0, 1.0}, {2.0, 4.0}, {3.0, 9.0}}, Values: map[string]float64{"largest": 9}, Notes: []string{"old"}}, nil
	}}
}

// TestComputationsReportTheirOwn: a computation is no training, whose metrics and times
// it would not have.
func TestComputationsReportTheirOwn(t *testing.T) {
	n := 0
	r := runnerOf(t, t.TempDir(), computed, squares(&n))
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	res, err := r.Collect()
	if err != nil {
		t.Fatal(err)
	}
	p := r.Plan.Parts[0]
	if got := res.names(p); !slices.Equal(got, []string{"largest"}) || len(p.Times)+len(p.Figures) > 0 {
		t.Errorf("it reports %q, times %v, figures %q", got, p.Times, p.Figures)
	}
	if v := res.view(p); len(v.Rows) != 1 || !slices.Equal(v.Rows[0].Cells, []string{"9"}) || len(v.Facts) > 0 {
		t.Errorf("its section: %+v", v)
	}
}

// TestStoredTables: a raised version is computed again, and what is concluded from rows
// is that of today.
func TestStoredTables(t *testing.T) {
	dir, n := t.TempDir(), 0
	comp := squares(&n)
	do := func() *Record {
		r := runnerOf(t, dir, computed, comp)
		r.Continue = true
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		res, err := r.Collect()
		if err != nil {
			t.Fatal(err)
		}
		return res.Records[0]
	}
	first := do()
	if n != 1 || first.Table.Notes[0] != "old" {
		t.Fatalf("%d runs, notes %q", n, first.Table.Notes)
	}
	comp.Conclude = func(t *Table) { t.Notes, t.Values = []string{"new"}, map[string]float64{"rows": float64(len(t.Rows))} }
	if rec := do(); n != 1 || rec.ID != first.ID || rec.Table.Notes[0] != "new" || rec.Values["rows"] != 3 || len(rec.Values) != 1 {
		t.Errorf("%d runs, notes %q, values %v", n, rec.Table.Notes, rec.Values)
	}
	comp.Version = 1
	if rec := do(); n != 2 || rec.ID == first.ID {
		t.Errorf("%d runs after a raised version, in %s and %s", n, first.ID, rec.ID)
	}
	if do(); n != 2 {
		t.Errorf("%d runs", n)
	}
	if _, err := os.Stat(filepath.Join(dir, cellsDir, first.ID, tableFile)); err != nil {
		t.Errorf("the table of before: %v", err)
	}
}

// TestComputationDigestsStay: a computation of no version keeps its folders.
func TestComputationDigestsStay(t *testing.T) {
	n := 0
	p := runnerOf(t, "", strings.Replace(computed, "{up_to: 3}", "{up_to: 4}", 1), squares(&n)).Plan
	if got, want := p.Parts[0].Cells[0].Digest, "2703330a3c29b9bdb8bfdab530d77f55aafbcd20135f3ea9478dd8b7e7059f92"; got != want {
		t.Errorf("the digest is %s, before %s", got, want)
	}
}

// TestDamagedTablesAreFaults: a row that is shorter than the columns would be read past
// its end.
func TestDamagedTablesAreFaults(t *testing.T) {
	dir, n := t.TempDir(), 0
	comp := squares(&n)
	comp.Conclude = func(t *Table) { t.Notes = []string{fmt.Sprint(t.Rows[1][1])} }
	r := runnerOf(t, dir, computed, comp)
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.taskDir(r.Plan.Tasks()[0]), tableFile)
	for _, text := range []string{`{"columns": ["x", "y"], "rows": [[1, 1], [2]]}`, `{"columns": ["x"], "rows": [[1], [2, 3]]}`, `{"columns`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Collect(); err == nil || !strings.HasPrefix(err.Error(), path+": damaged file: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
