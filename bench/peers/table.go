package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// table is results.md.
func (r *results) table() string {
	var b strings.Builder
	b.WriteString("Written by `make bench-peers`. A ratio is the faster peer's time over Driftmesh's within a round, the median over rounds\n(least – most): above 1 Driftmesh is faster.\n")
	if r.Equal != nil {
		r.Equal.table(&b)
	}
	if r.Updates != nil {
		r.Updates.table(&b, "TB update (sampling, loss, optimiser)", "ms", "≥ 8× in each cell, or ≥ 70 % of the roofline (the products of the distinct states at the rate of one of them) after 2,000 updates; geometric mean ≥ 15× from the start, ≥ 12× after 2,000 updates", func(_ *entry, ms float64) float64 { return ms })
		r.Updates.variants(&b)
	}
	if r.Sampling != nil {
		r.Sampling.table(&b, "Sampling alone", "trajectories/s", "≥ 10×", func(e *entry, ms float64) float64 { return 1e3 * float64(e.Batch) / ms })
	}
	if r.Quality != nil {
		r.Quality.table(&b)
		r.Tuning.table(&b)
	}
	if r.Start != nil {
		r.Start.table(&b)
	}
	return b.String()
}

// title writes a heading, and where and with what it was measured.
func (h *header) title(b *strings.Builder, name string) {
	fmt.Fprintf(b, "\n## %s\n\n%s, %d cores, Linux %s, %s", name, h.Machine.CPU, h.Machine.Cores, h.Machine.Kernel, h.Machine.Go)
	for _, p := range slices.Sorted(maps.Keys(h.Versions)) {
		if p != "go" {
			fmt.Fprintf(b, ", %s %s", p, h.Versions[p])
		}
	}
	fmt.Fprintf(b, "; rounds: %d.", h.Rounds)
	if !h.Complete {
		b.WriteString(" **Interrupted: not all was measured.**")
	}
	b.WriteString("\n")
}

func (c *checks) table(b *strings.Builder) {
	c.title(b, "What is equal")
	b.WriteString("\n| grid | parameters | log Z of R: ours, torchgfn, gfnx | exact TV of the policy after 2,000 updates: ours, torchgfn, gfnx | remark |\n|---|---|---|---|---|\n")
	for i := range c.Checks {
		k := &c.Checks[i]
		logZ, tv := make([]string, 0, 3), make([]string, 0, 3)
		for _, lib := range libraries {
			a := k.Sides[lib]
			logZ = append(logZ, fmt.Sprintf("%.5f", a.LogZ))
			if a.TV != nil {
				tv = append(tv, fmt.Sprintf("%.5f", *a.TV))
			}
		}
		_, remark, _ := strings.Cut(k.remark(), "; ")
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s |\n", k.Grid, k.Sides[ours].Parameters, strings.Join(logZ, ", "), strings.Join(tv, ", "), remark)
	}
}

// median of a side's times; NaN without any.
func (e *entry) median(lib library) float64 {
	if s := e.Sides[lib]; s != nil && len(s.MS) > 0 {
		return median(s.MS)
	}
	return math.NaN()
}

// table writes the rows by threads and by how far the policy was trained.
func (t *times) table(b *strings.Builder, name, unit, target string, show func(*entry, float64) float64) {
	t.title(b, name)
	busiest := 0.0
	groups := map[[2]int][]*entry{}
	for _, e := range t.Entries {
		for _, s := range e.Sides {
			busiest = max(busiest, slices.Max(append(slices.Clone(s.Elsewhere), 0)))
		}
		if key := [2]int{e.After, e.Threads}; e.Variant == plainTB && len(e.ratios()) > 0 {
			groups[key] = append(groups[key], e)
		}
	}
	fmt.Fprintf(b, "Target: %s. Processes that are not measured kept up to %.2f cores busy.\n", target, busiest)
	keys := slices.SortedFunc(maps.Keys(groups), func(x, y [2]int) int { return slices.Compare(x[:], y[:]) })
	byStage := map[int][]float64{}
	for _, key := range keys {
		fmt.Fprintf(b, "\nAfter %d updates, %d threads:\n\n| cell | Driftmesh %s | torchgfn | gfnx | ratio | lengths: ours, torchgfn, gfnx | distinct states | of the roofline |\n|---|---|---|---|---|---|---|---|\n", key[0], key[1], unit)
		var ratios []float64
		for _, e := range groups[key] {
			r := e.ratios()
			ratios = append(ratios, median(r))
			fmt.Fprintf(b, "| %s |", e.Cell)
			lengths := make([]string, 0, 3)
			for _, lib := range libraries {
				fmt.Fprintf(b, " %s |", short(show(e, e.median(lib))))
				if s := e.Sides[lib]; s != nil {
					lengths = append(lengths, fmt.Sprintf("%.1f", median(s.Lengths)))
				}
			}
			roof := ""
			if share := e.roofline(); share != nil {
				roof = fmt.Sprintf("%.0f %%", 100*median(share))
			}
			fmt.Fprintf(b, " %s | %s | %s | %s |\n", spread(r), strings.Join(lengths, ", "), short(median(e.Sides[ours].States)), roof)
		}
		fmt.Fprintf(b, "| geometric mean | | | | %.1f× | | | |\n", geomean(ratios))
		byStage[key[0]] = append(byStage[key[0]], ratios...)
	}
	for _, after := range slices.Sorted(maps.Keys(byStage)) {
		fmt.Fprintf(b, "\nAfter %d updates, all %d rows: geometric mean **%.1f×**, least %.1f×.\n", after, len(byStage[after]), geomean(byStage[after]), slices.Min(byStage[after]))
	}
}

// variants compares other losses with trajectory balance, and with the peers.
func (t *times) variants(b *strings.Builder) {
	plain := map[string]*entry{}
	key := func(e *entry) string { return fmt.Sprint(e.Cell, e.Threads, e.After) }
	for _, e := range t.Entries {
		if e.Variant == plainTB {
			plain[key(e)] = e
		}
	}
	begun := false
	for _, e := range t.Entries {
		base := plain[key(e)]
		if e.Variant == plainTB || base == nil || math.IsNaN(e.median(ours)) || math.IsNaN(base.median(ours)) {
			continue
		}
		if !begun {
			b.WriteString("\nOther losses (target: within 10 % of TB; with uniform P_B, trajectories after 2,000 updates are another policy's):\n\n| loss | cell | after | threads | Driftmesh ms | its TB | time over TB's | length over TB's | torchgfn | gfnx | ratio |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
			begun = true
		}
		a, z := e.Sides[ours], base.Sides[ours]
		var over, longer []float64
		for i := range min(len(a.MS), len(z.MS)) {
			over, longer = append(over, a.MS[i]/z.MS[i]), append(longer, a.Lengths[i]/z.Lengths[i])
		}
		fmt.Fprintf(b, "| %s | %s | %d | %d | %s | %s | %.2f | %.2f | %s | %s | %s |\n", e.Variant, e.Cell, e.After, e.Threads,
			short(e.median(ours)), short(base.median(ours)), median(over), median(longer), short(e.median(torchgfn)), short(e.median(gfnx)), spread(e.ratios()))
	}
}

func (q *races) table(b *strings.Builder) {
	q.title(b, "Quality: seconds of training until TV ≤ 0.05")
	fmt.Fprintf(b, "4-D height 8, %d threads; the first of three successive evaluations, one every %d updates, whose time is left out. Target: ≥ 8× sooner.\nThe median over seeds; a run that did not get there counts with the %.0f s after which it was ended.\n\n", q.Threads, evalEvery, q.Limit)
	b.WriteString("| R0 | library | batch | rate | seconds by seed | updates by seed | median | ratio |\n|---|---|---|---|---|---|---|---|\n")
	byReward := map[float64]map[library]float64{}
	for _, one := range q.Races {
		if len(one.Runs) == 0 {
			continue
		}
		if byReward[one.R0] == nil {
			byReward[one.R0] = map[library]float64{}
		}
		byReward[one.R0][one.Library] = one.median()
	}
	for _, one := range q.Races {
		if len(one.Runs) == 0 {
			continue
		}
		ratio := ""
		if own := byReward[one.R0][ours]; one.Library != ours && own > 0 {
			ratio = fmt.Sprintf("%.1f×", one.median()/own)
		}
		var seconds, updates []string
		for _, a := range one.Runs {
			mark := ""
			if !a.Reached {
				mark = "> "
			}
			seconds, updates = append(seconds, mark+short(a.Seconds)), append(updates, fmt.Sprint(a.Updates))
		}
		fmt.Fprintf(b, "| %g | %s | %d | %g | %s | %s | %s | %s |\n", one.R0, one.Library, one.Runs[0].Batch, one.Runs[0].LearningRate,
			strings.Join(seconds, ", "), strings.Join(updates, ", "), short(one.median()), ratio)
	}
}

func (r *race) median() float64 {
	v := make([]float64, 0, len(r.Runs))
	for _, a := range r.Runs {
		v = append(v, a.Seconds)
	}
	return median(v)
}

func (t *tuning) table(b *strings.Builder) {
	if t == nil || len(t.Searches) == 0 {
		return
	}
	b.WriteString("\nHow batch and rate were found: one run each with another seed, ended when the best one before was sooner.\n\n| R0 | library |")
	for _, s := range settings {
		fmt.Fprintf(b, " %d, %g |", s.Batch, s.LearningRate)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(settings)) + "\n")
	for _, s := range t.Searches {
		fmt.Fprintf(b, "| %g | %s |", s.R0, s.Library)
		for _, one := range settings {
			cell := ""
			for _, a := range s.Tries {
				if a.setting != one {
					continue
				}
				cell = short(a.Seconds) + " s"
				if !a.Reached {
					cell = "> " + cell
				}
			}
			fmt.Fprintf(b, " %s |", cell)
		}
		b.WriteString("\n")
	}
}

func (s *startups) table(b *strings.Builder) {
	s.title(b, "Start and memory")
	fmt.Fprintf(b, "%s, %d threads. Targets: ≤ 0.3 s; ≤ 80 MB; memory ≤ 1/5 of the smaller peer's.\n\n| library | from the command to the first update, s | installed, MiB | PSS, MiB | RSS, MiB | its peak |\n|---|---|---|---|---|---|\n", s.Cell, s.Threads)
	for _, lib := range libraries {
		if one := s.Sides[lib]; one != nil && len(one.PSS) > 0 {
			fmt.Fprintf(b, "| %s | %s | %.0f | %.0f | %.0f | %.0f |\n", lib, short(median(one.First)), one.Installed, median(one.PSS), median(one.RSS), median(one.Peak))
		}
	}
	own := s.Sides[ours]
	smaller := math.Inf(1)
	for _, lib := range libraries[1:] {
		if one := s.Sides[lib]; one != nil && len(one.PSS) > 0 {
			smaller = min(smaller, median(one.PSS))
		}
	}
	if own != nil && len(own.PSS) > 0 && !math.IsInf(smaller, 1) {
		fmt.Fprintf(b, "\nThe smaller peer's memory is %.1f times ours.\n", smaller/median(own.PSS))
	}
}

// spread is a median with the least and the most.
func spread(ratios []float64) string {
	if len(ratios) == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f× (%.1f – %.1f)", median(ratios), slices.Min(ratios), slices.Max(ratios))
}

// short writes a number with three digits that count; nothing for NaN.
func short(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return ""
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
