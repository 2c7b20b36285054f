package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/internal/job"
)

// measurement is what a command prints, keeps and holds against its promises.
type measurement interface {
	Print(io.Writer) error
	Check() error
}

// conclude prints a measurement and writes it beside the logs of its mesh.
func (o *options) conclude(name string, m measurement, err error) error {
	data, jerr := json.MarshalIndent(m, "", "  ")
	perr := errors.Join(m.Print(os.Stdout), jerr, os.WriteFile(filepath.Join(o.dir, name+".json"), data, 0o644))
	if err = errors.Join(err, perr); err != nil {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return m.Check()
}

func tell(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// learnersByDefault is how many nodes of a mesh under test only train.
const learnersByDefault = 1

// forever are the fields of a job that outlives a measurement.
var forever = []string{"train.updates=1000000000", "eval.every=0"}

func runFailover(ctx context.Context, o *options, args []string) error {
	kills := o.flags.Int("kills", 50, "kills of each kind")
	learners := o.flags.Int("learners", learnersByDefault, "nodes that only train")
	if err := o.parse(args); err != nil {
		return err
	}
	spec, _, err := job.Load(o.job, append(forever, "name=failover"))
	if err != nil {
		return err
	}
	f, err := chaos.MeasureFailover(ctx, chaos.FailoverConfig{
		Binary: o.binary, Dir: o.dir, Spec: spec, Kills: *kills, Seed: o.seed, Servers: 3, Learners: *learners, Log: tell,
	})
	if f == nil {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return o.conclude("failover", f, err)
}

func runSwarm(ctx context.Context, o *options, args []string) error {
	if err := o.parse(args); err != nil {
		return err
	}
	spec, _, err := job.Load(o.job, []string{"name=swarm", "train.updates=40000", "optimiser.learning_rate.over=40000", "eval.every=0"})
	if err != nil {
		return err
	}
	s, err := chaos.MeasureSwarm(ctx, chaos.SwarmConfig{
		Binary: o.binary, Dir: o.dir, Spec: spec, Processes: 4, Slots: 50, Less: 10, Seed: o.seed, Idle: 20 * time.Second, Log: tell,
	})
	if s == nil {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return o.conclude("swarm", s, err)
}

func runNetns(ctx context.Context, o *options, args []string) error {
	learners := o.flags.Int("learners", learnersByDefault, "nodes that only train")
	if err := o.parse(args); err != nil {
		return err
	}
	spec, _, err := job.Load(o.job, []string{"name=machines", "train.updates=40000", "optimiser.learning_rate.over=40000", "eval.every=0"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	m, err := chaos.MeasureMachines(ctx, chaos.MachinesConfig{
		Binary: o.binary, Dir: o.dir, Spec: spec, Servers: 3, Learners: *learners, Workers: 7 - *learners, Seed: o.seed, Log: tell,
	})
	if errors.Is(err, chaos.ErrNoRoot) {
		tell("skipped: %v", err)
		return nil
	}
	if m == nil {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return o.conclude("netns", m, err)
}
