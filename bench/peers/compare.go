package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// comparison is one run.
type comparison struct {
	exe     string // this binary
	binary  string // driftmesh
	python  string
	scripts string
	dir     string // of what the run leaves behind
	out     string // of the results
	cells   []cell
	threads []int
	rounds  int
	parts   []string
	quick   bool
	tune    bool
	seconds float64 // of one measurement
	least   int     // updates of it
	limit   float64 // seconds of training towards a distance
	seeds   int

	workers  map[string]*child
	progress *progress
	versions map[string]string
	sizes    map[library]int64
	prepared map[string]bool // files of parameters that this run has written
	results  results
}

var allParts = []string{"updates", "sampling", "quality", "start"}

func runCompare(ctx context.Context, args []string) (err error) {
	c := &comparison{workers: map[string]*child{}, versions: map[string]string{}, sizes: map[library]int64{}, prepared: map[string]bool{}}
	fl := flag.NewFlagSet("compare", flag.ContinueOnError)
	fl.StringVar(&c.binary, "binary", "bin/driftmesh", "the driftmesh `binary`")
	fl.StringVar(&c.python, "python", "bench/peers/.venv/bin/python", "a Python `interpreter` that has the peers")
	fl.StringVar(&c.scripts, "scripts", "bench/peers/py", "`folder` of the Python side")
	fl.StringVar(&c.dir, "dir", "runs/bench-peers", "`folder` for parameters and run folders")
	fl.StringVar(&c.out, "out", "bench/peers/results", "`folder` for the results; a part that is not measured keeps its own")
	fl.IntVar(&c.rounds, "rounds", 3, "rounds; results are medians")
	fl.Float64Var(&c.seconds, "for", 0.6, "`seconds` of one measurement, at least")
	fl.Float64Var(&c.limit, "limit", 180, "`seconds` of training towards a distance, at most")
	fl.BoolVar(&c.quick, "quick", false, "one round, one seed, six cells and two threads: about five minutes")
	fl.BoolVar(&c.tune, "tune", false, "look for the best batch and learning rate again, though tuning.json has them (ten to twenty minutes)")
	pattern := fl.String("cells", "", "parts of the names of `cells`, by comma, such as 4d-h16,b512; default: all")
	only := fl.String("only", strings.Join(allParts, ","), "`parts` to measure, by comma")
	threads := fl.String("threads", "1,2", "`numbers` of threads, and of cores, by comma")
	if err := fl.Parse(args); err != nil {
		return usageError{err}
	}
	if err := c.check(*pattern, *only, *threads); err != nil {
		return usageError{err}
	}
	if err := errors.Join(os.MkdirAll(c.dir, 0o755), os.MkdirAll(c.out, 0o755)); err != nil {
		return err
	}
	defer c.dismiss()
	c.progress = newProgress(os.Stderr)
	if err := c.hello(ctx); err != nil {
		return err
	}
	// What is done is published even when the rest cannot be.
	defer func() { err = errors.Join(err, c.publish()) }()
	return c.measure(ctx)
}

// check makes paths absolute and looks at what was asked for.
func (c *comparison) check(pattern, only, threads string) (err error) {
	if c.exe, err = os.Executable(); err != nil {
		return err
	}
	for _, path := range []*string{&c.binary, &c.python, &c.scripts, &c.dir, &c.out} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	for _, path := range []string{c.binary, c.python, c.scripts} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w; make bench-peers makes it", err)
		}
	}
	for part := range strings.SplitSeq(only, ",") {
		if !slices.Contains(allParts, part) {
			return fmt.Errorf("-only %q: want some of %s", part, strings.Join(allParts, ", "))
		}
		c.parts = append(c.parts, part)
	}
	c.least, c.seeds = 3, 3
	if c.quick {
		c.rounds, c.seeds, c.seconds, c.limit = 1, 1, min(c.seconds, 0.4), min(c.limit, 60)
		if threads == "1,2" {
			threads = "2"
		}
		if pattern == "" {
			pattern = "2d-h8-b16,2d-h8-b512,4d-h8-b128,4d-h16-b16,4d-h16-b512,4d-h32-b16"
		}
	}
	for text := range strings.SplitSeq(threads, ",") {
		var n int
		if _, err := fmt.Sscanf(text, "%d", &n); err != nil || n < 1 {
			return fmt.Errorf("-threads %q: want positive numbers by comma", threads)
		}
		c.threads = append(c.threads, n)
	}
	if c.rounds < 1 || c.seconds <= 0 || c.limit <= 0 {
		return errors.New("-rounds, -for and -limit: want at least 1, and more than 0")
	}
	c.cells, err = cells(pattern)
	return err
}

func (c *comparison) has(part string) bool { return slices.Contains(c.parts, part) }

// most is the largest number of threads: that of the parts that have one only.
func (c *comparison) most() int { return slices.Max(c.threads) }

// hello asks all libraries who they are.
func (c *comparison) hello(ctx context.Context) error {
	for _, lib := range libraries {
		p, err := c.worker(lib, c.most())
		if err != nil {
			return err
		}
		var a answer
		if err := p.ask(ctx, request{Op: "versions"}, &a); err != nil {
			return fmt.Errorf("%s: %w", lib, err)
		}
		for name, v := range a.Versions {
			c.versions[name] = v
		}
		c.sizes[lib] = a.Installed
	}
	info, err := os.Stat(c.binary)
	if err != nil {
		return err
	}
	c.sizes[ours] = info.Size()
	return nil
}

// measure makes all parts, in turn. Each writes its results when it ends, and
// when it is interrupted.
func (c *comparison) measure(ctx context.Context) error {
	began := time.Now()
	if err := c.equal(ctx); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{"updates", c.updates}, {"sampling", c.sampling}, {"quality", c.quality}, {"start", c.starts}} {
		if !c.has(part.name) {
			continue
		}
		c.progress.say("%s:", part.name)
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	c.progress.say("all in %s", time.Since(began).Round(time.Second))
	return nil
}
