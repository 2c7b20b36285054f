package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	Task   string `json:"task"`
	Metric string `json:"metric"`
	Best   string `json:"best_member"`
	// Chosen is its mean on the seeds that chose it.
	Chosen experiment.Interval `json:"best_when_chosen"`
	compared
	// Also are further measures, of which more is better.
	Also map[string]compared `json:"also,omitempty"`
}

// compared is one measure of all sides.
type compared struct {
	Gfnx experiment.Interval `json:"gfnx_tb"`
	TB   experiment.Interval `json:"tb"`
	// BesideGfnx compares our trajectory balance with gfnx's, seeds 0 to 4.
	BesideGfnx experiment.Paired `json:"tb_beside_gfnx"`
	// Tested is the mean of the best member on fresh seeds.
	Tested experiment.Interval `json:"best_tested"`
	// BesideTB compares it with trajectory balance there.
	BesideTB experiment.Paired `json:"best_beside_tb"`
}

// resultsFile has a row for each task that was ever asked for.
const resultsFile = "results.json"

// publish writes the rows of these tasks beside the old ones of others.
func publish(dir string, old []row, chosen []task, ours *outcome, peers []peerRun) error {
	var rows []row
	for _, t := range tasks {
		named := func(r row) bool { return r.Task == t.name }
		if slices.ContainsFunc(chosen, func(c task) bool { return c.name == t.name }) {
			rows = append(rows, compareTask(t, ours, peers))
		} else if i := slices.IndexFunc(old, named); i >= 0 {
			rows = append(rows, old[i])
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, resultsFile), rows); err != nil {
		return err
	}
	text := table(rows)
	fmt.Print("\n" + text)
	return atomicfile.WriteBytes(filepath.Join(dir, "results.md"), 0o644, []byte(text))
}

// readRows reads what was published before; nothing is no error.
func readRows(path string) (rows []row, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &rows)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; without that file all tasks are measured anew", path, err)
	}
	return rows, nil
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
	on := func(metric string, value func(map[string]float64) float64, higher bool) compared {
		mine, gfnx := paired(value, both, theirs)
		better, classic := paired(value, tested[best], tested[tb])
		return compared{
			Gfnx: experiment.MeanOf(known(gfnx)), TB: experiment.MeanOf(known(mine)), BesideGfnx: experiment.Pairs(metric, mine, gfnx, higher, margin),
			Tested: experiment.MeanOf(known(better)), BesideTB: experiment.Pairs(metric, better, classic, higher, margin),
		}
	}
	out := row{
		Task: t.name, Metric: t.metric, Best: best,
		Chosen:   experiment.MeanOf(values(t.value, ours.choosing[t.name][best])),
		compared: on(t.metric, t.value, t.higher),
	}
	for _, name := range t.also {
		if out.Also == nil {
			out.Also = map[string]compared{}
		}
		out.Also[name] = on(name, plain(name), true)
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

// words are the further measures in words.
var words = map[string]string{"eval_ess": "ESS, share of the samples, higher is better", "modes_found": "modes found, higher is better"}

func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| task | measure | gfnx, TB | Driftmesh, TB | TB beside gfnx's | best member of seeds 0–2 | on seeds 3–7 | beside TB there |\n|---|---|---|---|---|---|---|---|\n")
	line := func(what, measure, best string, c compared) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s: %s | `%s` | %s | %s: %s |\n", what, strings.ReplaceAll(measure, "|", `\|`), c.Gfnx.Text(), c.TB.Text(),
			c.BesideGfnx.Verdict, c.BesideGfnx.Diff.Text(), best, c.Tested.Text(), c.BesideTB.Verdict, c.BesideTB.Diff.Text())
	}
	for _, r := range rows {
		t := tasks[slices.IndexFunc(tasks, func(t task) bool { return t.name == r.Task })]
		direction := ", lower is better"
		if t.higher {
			direction = ", higher is better"
		}
		line(t.what, r.Metric+direction, r.Best, r.compared)
		for _, name := range t.also {
			line("", words[name], r.Best, r.Also[name])
		}
	}
	return b.String()
}
