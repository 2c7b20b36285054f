package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/paramserver"
)

// comparison is one run.
type comparison struct {
	id      string // of the run, in the environment of its processes
	binary  string // driftmesh
	python  string
	scripts string
	job     string
	dir     string // of what the run leaves behind
	out     string // of the results
	profile string
	seconds time.Duration
	rounds  int
	kills   int
	parts   []string
	ours    bool // alone
	params  int  // of the job's model, log Z included
}

// side is what one round measured of one system.
type side struct {
	Transport *parts.Taking `json:"transport,omitempty"`
	Archived  *parts.Taking `json:"transport_archived,omitempty"` // ours only
	Ages      *parts.Ages   `json:"ages,omitempty"`
	Memory    *memory       `json:"memory,omitempty"`
	Training  *training     `json:"training,omitempty"`
}

// round is both systems, one right after the other.
type round struct {
	Driftmesh side `json:"driftmesh"`
	Ray       side `json:"ray"`
}

var allParts = []string{"transport", "ages", "memory", "training", "failover"}

func runCompare(ctx context.Context, args []string) (err error) {
	c := &comparison{id: uuid.NewString()}
	fl := flag.NewFlagSet("compare", flag.ContinueOnError)
	fl.StringVar(&c.binary, "binary", "bin/driftmesh", "the driftmesh `binary`")
	fl.StringVar(&c.python, "python", "bench/ray/.venv/bin/python", "a Python `interpreter` that has ray")
	fl.StringVar(&c.scripts, "scripts", "bench/ray/py", "`folder` of the Python side")
	fl.StringVar(&c.job, "job", "examples/hypergrid-4d.yaml", "job `file`, of a four-dimensional grid")
	fl.StringVar(&c.dir, "dir", "runs/bench-ray", "`folder` for logs")
	fl.StringVar(&c.out, "out", "bench/ray/results", "`folder` for the results")
	fl.StringVar(&c.profile, "profile", "", "`file` for a CPU profile of the last round's intake")
	fl.DurationVar(&c.seconds, "for", 6*time.Second, "`time` of one measurement")
	fl.IntVar(&c.rounds, "rounds", 5, "rounds; results are medians")
	fl.IntVar(&c.kills, "kills", 10, "kills of leader and learner")
	fl.BoolVar(&c.ours, "ours", false, "measure Driftmesh alone, for work on it")
	which := fl.String("parts", strings.Join(allParts, ","), "what to measure, by comma")
	if err := fl.Parse(args); err != nil {
		return err
	}
	if err := c.check(*which); err != nil {
		return err
	}
	// Also processes that a mesh under test starts are found by it.
	if err := errors.Join(os.Setenv(marker, c.id), adopt()); err != nil {
		return err
	}
	defer func() {
		if n, rerr := reap(c.id); rerr != nil || n > 0 {
			err = errors.Join(err, rerr)
			parts.Tell("%d processes were left and have been killed", n)
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(os.TempDir(), rayDir(c.id))))
	}()
	if err := errors.Join(os.RemoveAll(c.dir), os.MkdirAll(c.dir, 0o755)); err != nil {
		return err
	}
	r, err := c.measure(ctx)
	if err != nil || c.ours {
		return err
	}
	return c.publish(r)
}

// check makes paths absolute and looks at what was asked for.
func (c *comparison) check(parts string) (err error) {
	for _, path := range []*string{&c.binary, &c.python, &c.scripts, &c.job, &c.dir, &c.out} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	for _, path := range []string{c.binary, c.python, c.scripts, c.job} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w; make bench-ray makes it", err)
		}
	}
	for part := range strings.SplitSeq(parts, ",") {
		if !slices.Contains(allParts, part) {
			return fmt.Errorf("-parts %q: want some of %s", part, strings.Join(allParts, ", "))
		}
		c.parts = append(c.parts, part)
	}
	if c.rounds < 1 || c.kills < 1 || c.seconds < time.Second {
		return errors.New("-rounds, -kills and -for: want at least 1, 1 and 1s")
	}
	spec, err := c.spec("check")
	if err != nil {
		return err
	}
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return err
	}
	c.params = len(u.Params())
	return nil
}

// spec is the job under a name of its own, in batches of 64 and without an end.
func (c *comparison) spec(name string, sets ...string) (*job.Spec, error) {
	base := []string{
		"name=bench-" + name, "train.updates=1000000000", "eval.every=0",
		"train.batch=" + strconv.Itoa(parts.PerCall), "mesh.rollout=" + strconv.Itoa(parts.PerCall),
	}
	spec, _, err := job.Load(c.job, append(base, sets...))
	return spec, err
}

// folder is where a mesh keeps its data; one of an earlier round is emptied.
func (c *comparison) folder(name string) string {
	dir := filepath.Join(c.dir, name)
	os.RemoveAll(dir) // what is left shows when the mesh founds a cluster there
	return dir
}

func (c *comparison) has(part string) bool { return slices.Contains(c.parts, part) }

// measure makes the rounds, and the kills after them.
func (c *comparison) measure(ctx context.Context) (*results, error) {
	r := &results{Machine: parts.Machine(), Params: c.params, Seconds: c.seconds.Seconds()}
	began := time.Now()
	for i := range c.rounds {
		var one round
		var err error
		if one.Driftmesh, err = c.driftmesh(ctx); err != nil {
			return nil, fmt.Errorf("driftmesh, round %d: %w", i+1, err)
		}
		parts.Tell("round %d of %d, driftmesh: %s", i+1, c.rounds, brief(one.Driftmesh))
		if c.ours {
			continue
		}
		if one.Ray, err = c.ray(ctx, one.Driftmesh); err != nil {
			return nil, fmt.Errorf("ray, round %d: %w", i+1, err)
		}
		parts.Tell("round %d of %d, ray:       %s", i+1, c.rounds, brief(one.Ray))
		r.Rounds = append(r.Rounds, one)
	}
	if c.has("failover") {
		var err error
		if r.Failover, err = c.failover(ctx); err != nil {
			return nil, err
		}
	}
	r.Took = time.Since(began).Seconds()
	return r, nil
}

func brief(s side) string {
	line, err := json.Marshal(s)
	if err != nil {
		return err.Error()
	}
	return string(line)
}

// driftmesh measures our side of a round.
func (c *comparison) driftmesh(ctx context.Context) (s side, err error) {
	if c.has("transport") {
		if s.Transport, err = c.transport(ctx, false); err != nil {
			return s, fmt.Errorf("transport: %w", err)
		}
		if s.Archived, err = c.transport(ctx, true); err != nil {
			return s, fmt.Errorf("transport with an archive: %w", err)
		}
	}
	if c.has("ages") {
		if s.Ages, err = c.ages(ctx); err != nil {
			return s, fmt.Errorf("ages: %w", err)
		}
	}
	if c.has("memory") {
		if s.Memory, err = c.memory(ctx); err != nil {
			return s, fmt.Errorf("memory: %w", err)
		}
	}
	if c.has("training") {
		if s.Training, err = c.training(ctx); err != nil {
			return s, fmt.Errorf("training: %w", err)
		}
	}
	return s, nil
}

// failures is what the deaths of the machine that leads cost.
type failures struct {
	Driftmesh *chaos.Failover `json:"driftmesh"`
	Ray       *headDeath      `json:"ray"`
}

// failover kills leaders and learners of a mesh, and the head of a Ray cluster.
func (c *comparison) failover(ctx context.Context) (*failures, error) {
	spec, _, err := job.Load(c.job, []string{"name=failover", "train.updates=1000000000", "eval.every=0"})
	if err != nil {
		return nil, err
	}
	f := &failures{}
	if f.Driftmesh, err = chaos.MeasureFailover(ctx, chaos.FailoverConfig{
		Binary: c.binary, Dir: c.folder("failover"), Spec: spec, Kills: c.kills, Seed: 1, Servers: 3, Log: parts.Tell,
	}); err != nil {
		return nil, fmt.Errorf("failover: %w", err)
	}
	if f.Ray, err = c.headDeath(ctx); err != nil {
		return nil, fmt.Errorf("death of Ray's head: %w", err)
	}
	return f, nil
}
