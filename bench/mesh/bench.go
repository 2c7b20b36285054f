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

	"github.com/driftmesh/driftmesh/bench/parts"
)

// bench is one run.
type bench struct {
	binary  string // driftmesh
	job     string
	dir     string // of what the run leaves behind
	out     string // of the results
	profile string
	params  int           // of the state that is committed
	rounds  int           // of what is compared; results are medians
	repeats int           // of a run of the binary
	slice   time.Duration // of one side of a round
	long    time.Duration // of what is measured once
	batch   int           // of the jobs that are trained
	parts   []string
	short   bool
}

var allParts = []string{"ingest", "publication", "commits", "windows", "compute"}

func runBench(ctx context.Context, args []string) (err error) {
	b := &bench{}
	fl := flag.NewFlagSet("run", flag.ContinueOnError)
	fl.StringVar(&b.binary, "binary", "bin/driftmesh", "the driftmesh `binary`")
	fl.StringVar(&b.job, "job", "examples/hypergrid-4d.yaml", "job `file`, of a four-dimensional grid")
	fl.StringVar(&b.dir, "dir", "runs/bench-mesh", "`folder` for data and logs; it is emptied")
	fl.StringVar(&b.out, "out", "bench/mesh/results", "`folder` for the results")
	fl.StringVar(&b.profile, "profile", "", "`file` name that CPU profiles of the processes begin with")
	fl.IntVar(&b.params, "params", 71_000, "parameters of the states that are committed")
	fl.IntVar(&b.batch, "batch", 64, "trajectories of an update where a job is trained")
	fl.BoolVar(&b.short, "short", false, "at most two minutes, instead of eight")
	which := fl.String("parts", strings.Join(allParts, ","), "what to measure, by comma")
	if err := fl.Parse(args); err != nil {
		return err
	}
	b.rounds, b.repeats, b.slice, b.long = 5, 3, 3*time.Second, 4*time.Second
	if b.short {
		b.rounds, b.repeats, b.slice, b.long = 3, 1, time.Second, 2*time.Second
	}
	if err := b.check(*which); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(b.dir), os.MkdirAll(b.dir, 0o755)); err != nil {
		return err
	}
	r, err := b.measure(ctx)
	if err != nil {
		return err
	}
	return b.publish(r)
}

// check makes paths absolute and looks at what was asked for.
func (b *bench) check(which string) (err error) {
	for _, path := range []*string{&b.binary, &b.job, &b.dir, &b.out} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	for _, path := range []string{b.binary, b.job} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w; make bench-mesh makes it", err)
		}
	}
	for part := range strings.SplitSeq(which, ",") {
		if !slices.Contains(allParts, part) {
			return fmt.Errorf("-parts %q: want some of %s", part, strings.Join(allParts, ", "))
		}
		b.parts = append(b.parts, part)
	}
	if b.params < 1 || b.batch < 1 {
		return fmt.Errorf("-params %d, -batch %d: want at least 1", b.params, b.batch)
	}
	return nil
}

func (b *bench) has(part string) bool { return slices.Contains(b.parts, part) }

// folder is where a measurement keeps its data.
func (b *bench) folder(name string) string { return filepath.Join(b.dir, name) }

// measure makes the measurements, one after the other.
func (b *bench) measure(ctx context.Context) (*results, error) {
	r := &results{Machine: parts.Machine(), Short: b.short}
	began := time.Now()
	logs := func(f func(voters int) error) func() error {
		return func() error { return errors.Join(f(1), f(3)) }
	}
	steps := []struct {
		part string
		run  func() error
	}{
		{"ingest", func() (err error) { r.Ingest, err = b.ingest(ctx); return err }},
		{"publication", func() (err error) { r.Publication, err = b.publication(ctx); return err }},
		{"commits", logs(func(n int) error {
			c, err := b.commits(ctx, n)
			r.Commits = append(r.Commits, c)
			return err
		})},
		{"windows", logs(func(n int) error {
			w, err := b.windows(ctx, n)
			r.Windows = append(r.Windows, w)
			return err
		})},
		{"compute", func() (err error) { r.Compute, err = b.compute(ctx); return err }},
	}
	for _, s := range steps {
		if !b.has(s.part) {
			continue
		}
		at := time.Now()
		if err := s.run(); err != nil {
			return nil, fmt.Errorf("%s: %w", s.part, err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		parts.Tell("%s: %.0f s", s.part, time.Since(at).Seconds())
	}
	r.Took = time.Since(began).Seconds()
	return r, nil
}
