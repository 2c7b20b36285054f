package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/experiment"
)

// margin of "not worse", in percent.
const margin = 10

// row is a task's line of the results.
type row struct {
	Task   string              `json:"task"`
	Metric string              `json:"metric"`
	Gfnx   experiment.Interval `json:"gfnx_tb"`
	TB     experiment.Interval `json:"tb"`
	// BesideGfnx compares our trajectory balance with gfnx's, seeds 0 to 4.
	BesideGfnx experiment.Paired `json:"tb_beside_gfnx"`
	Best       string            `json:"best_member"`
	// Chosen is its mean on the seeds that chose it, Tested on fresh ones.
	Chosen experiment.Interval `json:"best_when_chosen"`
	Tested experiment.Interval `json:"best_tested"`
	// BesideTB compares it with trajectory balance on the fresh seeds.
	BesideTB experiment.Paired `json:"best_beside_tb"`
	// Also are means of further measures: gfnx's, our trajectory balance's, the best member's.
	Also map[string][3]experiment.Interval `json:"also,omitempty"`
}

func publish(dir string, chosen []task, ours *outcome, peers []peerRun) error {
	var rows []row
	for _, t := range chosen {
		rows = append(rows, compareTask(t, ours, peers))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, "results.json"), rows); err != nil {
		return err
	}
	text := table(chosen, rows)
	fmt.Print("\n" + text)
	return atomicfile.WriteBytes(filepath.Join(dir, "results.md"), 0o644, []byte(text))
}

func compareTask(t task, ours *outcome, peers []peerRun) row {
	theirs := map[uint64]map[string]float64{}
	for _, p := range peers {
		if p.Task == t.name {
			theirs[p.Seed] = p.Measured
		}
	}
	both := map[uint64]map[string]float64{} // seeds of either set
	for _, r := range []results{ours.choosing, ours.tested} {
		for seed, m := range r[t.name][tb] {
			both[seed] = m
		}
	}
	best := ours.best[t.name]
	tested := ours.tested[t.name]
	mine, gfnx := paired(t.value, both, theirs)
	better, classic := paired(t.value, tested[best], tested[tb])
	out := row{
		Task: t.name, Metric: t.metric, Best: best,
		Gfnx: experiment.MeanOf(known(gfnx)), TB: experiment.MeanOf(known(mine)), BesideGfnx: experiment.Pairs(t.metric, mine, gfnx, t.higher, margin),
		Chosen: experiment.MeanOf(values(t.value, ours.choosing[t.name][best])), Tested: experiment.MeanOf(known(better)),
		BesideTB: experiment.Pairs(t.metric, better, classic, t.higher, margin),
	}
	for _, name := range t.also {
		if out.Also == nil {
			out.Also = map[string][3]experiment.Interval{}
		}
		of := plain(name)
		out.Also[name] = [3]experiment.Interval{
			experiment.MeanOf(values(of, theirs)), experiment.MeanOf(values(of, both)), experiment.MeanOf(values(of, tested[best])),
		}
	}
	return out
}

// paired are the values of the seeds that both sides have, in order.
func paired(value func(map[string]float64) float64, a, b map[uint64]map[string]float64) (x, y []float64) {
	for seed := range uint64(maxSeed) {
		if m, ok := a[seed]; ok {
			if n, ok := b[seed]; ok {
				x, y = append(x, value(m)), append(y, value(n))
			}
		}
	}
	return x, y
}

// known are the values that there are.
func known(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), math.IsNaN)
}

// maxSeed is above all seeds of the study.
const maxSeed = 1000

// values are those that there are of one side.
func values(value func(map[string]float64) float64, of map[uint64]map[string]float64) (out []float64) {
	for seed := range uint64(maxSeed) {
		if m, ok := of[seed]; ok {
			if v := value(m); !math.IsNaN(v) {
				out = append(out, v)
			}
		}
	}
	return out
}

func table(chosen []task, rows []row) string {
	var b strings.Builder
	b.WriteString("| task | measure | gfnx, TB | Driftmesh, TB | TB beside gfnx's | best member of seeds 0–2 | on seeds 3–7 | beside TB there |\n|---|---|---|---|---|---|---|---|\n")
	for i, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s: %s | `%s` | %s | %s: %s |\n", chosen[i].what, strings.ReplaceAll(r.Metric, "|", `\|`), r.Gfnx.Text(), r.TB.Text(),
			r.BesideGfnx.Verdict, r.BesideGfnx.Diff.Text(), r.Best, r.Tested.Text(), r.BesideTB.Verdict, r.BesideTB.Diff.Text())
	}
	b.WriteString("\n")
	for i, r := range rows {
		for _, name := range chosen[i].also {
			a := r.Also[name]
			fmt.Fprintf(&b, "%s, `%s`: gfnx %s, TB %s, `%s` %s.\n", r.Task, name, a[0].Text(), a[1].Text(), r.Best, a[2].Text())
		}
	}
	return b.String()
}
