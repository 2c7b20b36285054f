// Command quality holds what Driftmesh learns against gfnx's trajectory balance at
// equal budgets of trajectories: `make bench-quality` calls it. quality.yaml has the
// tasks, docs/QUALITY.md says how they are compared. Only quality is measured, never
// time, so other work may run beside it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:])) }

type options struct {
	binary, study, runs, out string
	peers                    bool
	python                   string
	tasks                    string
}

// usageError is about flags that cannot be meant; the exit code is 2.
type usageError struct{ error }

func run(args []string) int {
	var o options
	fl := flag.NewFlagSet("quality", flag.ContinueOnError)
	fl.StringVar(&o.binary, "binary", "bin/driftmesh", "the driftmesh `binary`")
	fl.StringVar(&o.study, "study", "bench/quality/quality.yaml", "the study's `file`")
	fl.StringVar(&o.runs, "runs", "runs", "`folder` for the runs")
	fl.StringVar(&o.out, "out", "bench/quality/results", "`folder` for the results")
	fl.BoolVar(&o.peers, "peers", false, "train gfnx where results/peers.json lacks a run (all of it: two hours)")
	fl.StringVar(&o.python, "python", "bench/peers/.venv/bin/python", "the `interpreter` that has gfnx")
	fl.StringVar(&o.tasks, "tasks", "", "only these `tasks`, by comma")
	if err := fl.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := o.compare(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "interrupted; what was trained is kept")
		return 130
	}
	fmt.Fprintln(os.Stderr, "quality:", err)
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

// compare trains what is missing and writes the results.
func (o *options) compare(ctx context.Context) error {
	chosen, err := selected(o.tasks)
	if err != nil {
		return err
	}
	old, err := readRows(filepath.Join(o.out, resultsFile))
	if err != nil {
		return err
	}
	peers := filepath.Join(o.out, "peers.json")
	if o.peers {
		if err := o.trainPeers(ctx, chosen, peers); err != nil {
			return err
		}
	}
	theirs, err := readPeers(peers)
	if err != nil {
		return err
	}
	ours, err := o.trainOurs(ctx, chosen)
	if err != nil {
		return err
	}
	return publish(o.out, old, chosen, ours, theirs)
}
