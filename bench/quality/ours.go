package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/stat"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/experiment"
)

// Sets of the study. Members are ranked on the seeds of one, and the best is tested
// on those of the other.
const (
	chooseSet = "choose"
	testSet   = "test"
	tb        = "alpha:1"
)

// results are what our runs measured, by task, member and seed; nothing of one that
// diverged.
type results map[string]map[string]map[uint64]map[string]float64

// best is the member other than trajectory balance that did best on a task, among
// those with a measure on every seed.
func (r results) best(t task) string {
	var best string
	var of float64
	for member, seeds := range r[t.name] {
		if member == tb || len(seeds) == 0 {
			continue
		}
		var values []float64
		for _, m := range seeds {
			values = append(values, t.value(m))
		}
		mean := stat.Mean(values, nil)
		if math.IsNaN(mean) {
			continue
		}
		if t.higher {
			mean = -mean
		}
		if best == "" || mean < of || mean == of && member < best {
			best, of = member, mean
		}
	}
	return best
}

// add takes over what a set's folder holds.
func (r results) add(dir string) error {
	read, err := experiment.ReadResults(dir)
	if err != nil {
		return err
	}
	for _, rec := range read.Records {
		if rec.Status != experiment.Finished && rec.Status != experiment.Diverged {
			continue
		}
		member := ""
		for _, v := range rec.At {
			if v.Axis == "loss.divergence" {
				member = v.Text
			}
		}
		if r[rec.Part] == nil {
			r[rec.Part] = map[string]map[uint64]map[string]float64{}
		}
		if r[rec.Part][member] == nil {
			r[rec.Part][member] = map[uint64]map[string]float64{}
		}
		r[rec.Part][member][rec.Seed] = rec.Values
	}
	return nil
}

// outcome is our side of the comparison.
type outcome struct {
	choosing, tested results
	best             map[string]string // by task
}

// trainOurs ranks the members, and tests the best.
func (o *options) trainOurs(ctx context.Context, chosen []task) (*outcome, error) {
	text, err := os.ReadFile(o.study)
	if err != nil {
		return nil, err
	}
	out := &outcome{choosing: results{}, tested: results{}, best: map[string]string{}}
	parts := map[string]string{}
	for _, t := range chosen {
		parts[t.name] = "{}"
	}
	if err := o.train(ctx, text, chooseSet, parts, out.choosing); err != nil {
		return nil, err
	}
	for _, t := range chosen {
		best := out.choosing.best(t)
		if best == "" {
			return nil, fmt.Errorf("%s: every member diverged", t.name)
		}
		out.best[t.name] = best
		parts[t.name] = fmt.Sprintf("{axes: {loss.divergence: [%q, %q]}}", tb, best)
	}
	return out, o.train(ctx, text, testSet, parts, out.tested)
}

// named finds the files that the study names beside itself.
var named = regexp.MustCompile(`(modes_file: )([^/\s{}\[\],"][^\s{}\[\],"]*)`)

// atHome makes the files that a study names beside itself known to a copy elsewhere.
func atHome(text, folder string) string {
	return named.ReplaceAllStringFunc(text, func(s string) string {
		m := named.FindStringSubmatch(s)
		return m[1] + strconv.Quote(filepath.Join(folder, m[2]))
	})
}

// train runs some parts of a set. The parts are written into a copy of the study.
func (o *options) train(ctx context.Context, text []byte, set string, parts map[string]string, into results) error {
	folder, err := filepath.Abs(filepath.Dir(o.study))
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, line := range strings.SplitAfter(atHome(string(text), folder), "\n") {
		b.WriteString(line)
		if strings.TrimSpace(line) == set+":" {
			b.WriteString("    parts:\n")
			for _, t := range tasks {
				if p := parts[t.name]; p != "" {
					fmt.Fprintf(&b, "      %s: %s\n", t.name, p)
				}
			}
		}
	}
	path := filepath.Join(o.runs, "quality-"+set+".yaml")
	if err := os.MkdirAll(o.runs, 0o755); err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(path, 0o644, []byte(b.String())); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, o.binary, "experiment", "run", path, "--use", set, "--runs", o.runs, "--continue")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("experiment %s: %w", set, err)
	}
	return into.add(filepath.Join(o.runs, "quality", set))
}
