package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/driftmesh/driftmesh/chaos"
)

// series is what one library did in one entry, by round.
type series struct {
	MS        []float64 `json:"ms"`                   // per update, or per batch
	Lengths   []float64 `json:"lengths"`              // mean number of actions
	Counts    []int     `json:"counts"`               // updates or batches that were timed
	States    []float64 `json:"states,omitempty"`     // distinct cells in a batch; ours only
	Sgemm     []float64 `json:"sgemm,omitempty"`      // GFLOP/s of a hidden layer's product for the batch; ours only
	First     []float64 `json:"first_s"`              // the first one in seconds: what is compiled is then included
	Elsewhere []float64 `json:"busy_elsewhere_cores"` // meanwhile, by processes that are not measured
}

// entry is one row of a table of times.
type entry struct {
	Cell    string              `json:"cell"`
	Grid    grid                `json:"grid"`
	Batch   int                 `json:"batch"`
	Threads int                 `json:"threads"`
	After   int                 `json:"after_updates"`
	Variant string              `json:"variant"` // tb | uniform_pb | forward_kl
	Sides   map[library]*series `json:"sides"`
}

// Variants of an update.
const (
	plainTB   = "tb"
	uniformPB = "uniform_pb"
	forwardKL = "forward_kl" // with batch_optimal; ours alone
)

// trained is the number of updates after which trajectories are long.
const trained = 2000

// held is a learning rate that moves nothing by more than a thousand-millionth: a
// library that makes fifty times as many updates in a second is still measured on
// the same policy.
const held = 1e-12

// learned are the rates of training, those of the peers' own examples.
const (
	learnedRate  = 1e-3
	learnedZRate = 0.1
)

func backward(variant string) string {
	if variant == uniformPB {
		return "uniform"
	}
	return "joint"
}

// params is the file of the parameters that all libraries begin with, which
// Driftmesh makes: its own initial ones (PyTorch's default), or after so many
// updates in batches of 16.
func (c *comparison) params(ctx context.Context, g grid, variant string, after int) (string, error) {
	path := filepath.Join(c.dir, fmt.Sprintf("%s-%s-%d.f32", g, backward(variant), after))
	if c.prepared[path] {
		return path, nil
	}
	p, err := c.worker(ours, c.most())
	if err != nil {
		return "", err
	}
	var a answer
	if err := p.ask(ctx, request{
		Op: "prepare", Grid: g, Batch: 16, Backward: backward(variant), Seed: 1,
		LearningRate: learnedRate, LogZRate: learnedZRate, Params: path, Updates: after,
	}, &a); err != nil {
		return "", fmt.Errorf("parameters of %s after %d updates: %w", g, after, err)
	}
	c.prepared[path] = true
	return path, nil
}

// time measures an entry once with every library that has it, one right after
// the other; who begins changes from round to round.
func (c *comparison) time(ctx context.Context, op string, e *entry, round int) error {
	params, err := c.params(ctx, e.Grid, e.Variant, e.After)
	if err != nil {
		return err
	}
	r := request{
		Op: op, Grid: e.Grid, Batch: e.Batch, Backward: backward(e.Variant), Seed: uint64(round + 1),
		LearningRate: held, LogZRate: held, Params: params, Seconds: c.seconds, Least: c.least,
	}
	for i := range libraries {
		lib := libraries[(i+round)%len(libraries)]
		if e.Variant == forwardKL {
			if lib != ours {
				continue
			}
			r.Loss = forwardKL
		}
		a, busy, err := c.watched(ctx, lib, e.Threads, r)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", e.Cell, lib, err)
		}
		s := e.Sides[lib]
		if s == nil {
			s = new(series)
			e.Sides[lib] = s
		}
		s.MS, s.Lengths, s.Counts = append(s.MS, a.MS), append(s.Lengths, a.Length), append(s.Counts, a.Count)
		if lib == ours {
			s.States = append(s.States, a.States)
			if a.Sgemm > 0 {
				s.Sgemm = append(s.Sgemm, a.Sgemm)
			}
		}
		s.First, s.Elsewhere = append(s.First, a.First), append(s.Elsewhere, busy)
	}
	return nil
}

// watched asks a worker and says how many cores were busy elsewhere meanwhile.
func (c *comparison) watched(ctx context.Context, lib library, threads int, r request) (a answer, busy float64, err error) {
	p, err := c.worker(lib, threads)
	if err != nil {
		return a, 0, err
	}
	before := machineTimes()
	used, uerr := chaos.CPUTime(p.cmd.Process.Pid)
	if err := p.ask(ctx, r, &a); err != nil {
		return a, 0, err
	}
	after, aerr := chaos.CPUTime(p.cmd.Process.Pid)
	if uerr == nil && aerr == nil {
		busy = math.Round(100*elsewhere(before, machineTimes(), after-used)) / 100
	}
	return a, busy, nil
}

// guess is about how long an entry takes in one round, for the time that is left.
func (c *comparison) guess(e *entry) float64 {
	steps := float64(e.Grid.Dim*e.Grid.Height*e.Batch) / float64(e.Threads)
	if e.Variant == forwardKL {
		return 2 * c.seconds
	}
	return 6*c.seconds + 2e-4*steps
}

// updates times training: sampling, loss and optimiser.
func (c *comparison) updates(ctx context.Context) error {
	var all []*entry
	for _, threads := range c.threads {
		for _, after := range []int{0, trained} {
			for _, k := range c.cells {
				for _, variant := range []string{plainTB, uniformPB, forwardKL} {
					if variant != plainTB && !c.varied(k, threads) {
						continue
					}
					all = append(all, newEntry(k, threads, after, variant))
				}
			}
		}
	}
	c.results.Updates = &times{header: c.header(), Entries: all}
	if err := c.rotate(ctx, "update", all); err != nil {
		return err
	}
	c.results.Updates.Complete = true
	return nil
}

// varied says whether a cell is measured with other losses as well.
func (c *comparison) varied(k cell, threads int) bool {
	return threads == c.most() && k.Grid.Dim == 4 && k.Grid.Height <= 16 && (k.Batch == 16 || k.Batch == 512)
}

func newEntry(k cell, threads, after int, variant string) *entry {
	return &entry{Cell: k.String(), Grid: k.Grid, Batch: k.Batch, Threads: threads, After: after, Variant: variant, Sides: map[library]*series{}}
}

// sampling times rollouts alone.
func (c *comparison) sampling(ctx context.Context) error {
	var all []*entry
	for _, threads := range c.threads {
		for _, after := range []int{0, trained} {
			all = append(all, newEntry(cell{standard(4, 16), 512}, threads, after, plainTB))
		}
	}
	c.results.Sampling = &times{header: c.header(), Entries: all}
	if err := c.rotate(ctx, "sample", all); err != nil {
		return err
	}
	c.results.Sampling.Complete = true
	return nil
}

// rotate makes the rounds.
func (c *comparison) rotate(ctx context.Context, op string, all []*entry) error {
	total := 0.0
	for _, e := range all {
		total += c.guess(e)
	}
	c.progress.expect(total * float64(c.rounds))
	for round := range c.rounds {
		for _, e := range all {
			if err := c.time(ctx, op, e, round); err != nil {
				return err
			}
			c.progress.add(c.guess(e), "%s", e.brief(round))
		}
	}
	return nil
}

// brief is what a round said of an entry.
func (e *entry) brief(round int) string {
	text := fmt.Sprintf("%s, %d threads, after %d updates, %s:", e.Cell, e.Threads, e.After, e.Variant)
	for _, lib := range libraries {
		if s := e.Sides[lib]; s != nil && len(s.MS) > round {
			text += fmt.Sprintf(" %s %s ms", lib, short(s.MS[round]))
		}
	}
	if r := e.ratios(); len(r) > round {
		text += fmt.Sprintf(", %.1f×", r[round])
	}
	return text
}

// equal makes sure that all libraries are about to do the same: as many parameters,
// the same reward, and the same distance of the same policy.
func (c *comparison) equal(ctx context.Context) error {
	for _, g := range c.grids() {
		if err := c.equalOn(ctx, g); err != nil {
			return err
		}
	}
	c.results.Equal.Complete = true
	return nil
}

// grids are those that this run measures something on.
func (c *comparison) grids() (out []grid) {
	add := func(g grid) {
		if !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	if c.has("updates") {
		for _, k := range c.cells {
			add(k.Grid)
		}
	}
	if c.has("quality") {
		add(standard(4, 8))
	}
	if c.has("sampling") || c.has("start") {
		add(standard(4, 16))
	}
	return out
}

func (c *comparison) equalOn(ctx context.Context, g grid) error {
	if c.results.Equal == nil {
		c.results.Equal = &checks{header: c.header()}
	}
	began := time.Now()
	params, err := c.params(ctx, g, plainTB, trained)
	if err != nil {
		return err
	}
	k := check{Grid: g, Sides: map[library]answer{}}
	for _, lib := range libraries {
		p, err := c.worker(lib, c.most())
		if err != nil {
			return err
		}
		var a answer
		if err := p.ask(ctx, request{Op: "check", Grid: g, Batch: 16, Backward: "joint", Seed: 1, LearningRate: held, LogZRate: held, Params: params}, &a); err != nil {
			return fmt.Errorf("check of %s, %s: %w", g, lib, err)
		}
		k.Sides[lib] = a
	}
	if err := k.agree(); err != nil {
		return fmt.Errorf("%s: not the same on all sides: %w", g, err)
	}
	c.results.Equal.Checks = append(c.results.Equal.Checks, k)
	c.progress.say("%s: %d parameters on all sides%s (%s)", g, k.Sides[ours].Parameters, k.remark(), time.Since(began).Round(time.Millisecond))
	return nil
}
