package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// task is one part of the study, and what gfnx is asked for beside it.
type task struct {
	name   string
	what   string
	metric string
	higher bool // is better
	// value is the metric of what a run measured; NaN where it measured none.
	value func(measured map[string]float64) float64
	also  []string // further columns, by our names
	peer  []string // arguments of py/with_gfnx.py
}

// plain takes a metric as it is; NaN where there is none.
func plain(name string) func(map[string]float64) float64 {
	return func(m map[string]float64) float64 {
		if v, ok := m[name]; ok {
			return v
		}
		return math.NaN()
	}
}

// away is the distance of an estimate of log Z from the true one.
func away(logZ float64) func(map[string]float64) float64 {
	estimate := plain("eval_log_z")
	return func(m map[string]float64) float64 { return math.Abs(estimate(m) - logZ) }
}

// Exact log Z of the 6 by 6 torus, by transfer matrix: `driftmesh envs describe ising`.
const (
	logZ01 = 26.4449491797302
	logZ02 = 32.05729491268313
)

var ising = strings.Fields("--task ising --trajectories 100000 --learn-backward --lr 1e-3 --lr-z 0.1 --depth 4 --batch 64 --sigma")

var tasks = []task{
	{
		name: "grid", what: "4-D hypergrid of height 8, R0 = 0.1, 160,000 trajectories", metric: "exact TV", value: plain("tv"),
		peer: strings.Fields("--task grid --trajectories 160000 --learn-backward --lr 3e-3 --lr-z 0.1 --eps 0.1 --eps-updates 300 --batch 256"),
	},
	{
		name: "tfbind8", what: "TFBind8, max(0.001, 10 v³), 320,000 trajectories", metric: "exact TV", value: plain("tv"),
		peer: strings.Fields("--task tfbind8 --trajectories 320000 --table envs/sequence/data/tfbind8.csv.gz --learn-backward --lr 5e-4 --lr-z 0.05 --eps 1 --eps-updates 1000"),
	},
	{
		name: "ising-0.1", what: "Ising 6×6, σ = 0.1, 100,000 trajectories", metric: "|log Z error|", value: away(logZ01), also: []string{"eval_ess"},
		peer: append(slices.Clone(ising), "0.1"),
	},
	{
		name: "ising-0.2", what: "Ising 6×6, σ = 0.2, 100,000 trajectories", metric: "|log Z error|", value: away(logZ02), also: []string{"eval_ess"},
		peer: append(slices.Clone(ising), "0.2"),
	},
	{
		name: "bitseq", what: "120 bits in words of 8, β = 3, 100,000 trajectories", metric: "Spearman", higher: true, value: plain("test_spearman"), also: []string{"modes_found"},
		peer: strings.Fields("--task bitseq --trajectories 100000 --lr 1e-3 --lr-z 0.05 --log-z 82.5 --decay 1e-5 --eps 1e-3 --eps-end 1e-3"),
	},
}

// selected are the tasks of a list by comma; all of an empty one.
func selected(list string) ([]task, error) {
	if list == "" {
		return tasks, nil
	}
	var out []task
	for _, name := range strings.Split(list, ",") {
		i := slices.IndexFunc(tasks, func(t task) bool { return t.name == name })
		if i < 0 {
			return nil, usageError{fmt.Errorf("-tasks: got %q; want some of grid, tfbind8, ising-0.1, ising-0.2, bitseq", name)}
		}
		out = append(out, tasks[i])
	}
	return out, nil
}
