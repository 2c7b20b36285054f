package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/internal/job"
)

// settings is what the Python side is told. Its fields are those that both sides
// must agree on.
type settings struct {
	Temp         string   `json:"temp"` // short: Ray puts sockets there
	Parts        []string `json:"parts,omitempty"`
	CPUs         int      `json:"cpus"`
	Samplers     int      `json:"samplers"`
	PerCall      int      `json:"per_call"`
	Seconds      float64  `json:"seconds"`
	Settle       float64  `json:"settle"`
	Window       float64  `json:"window"` // seconds between publications in training
	Rate         float64  `json:"rate"`   // publications per second when ages are measured
	Params       int      `json:"params"`
	Dim          int      `json:"dim"`
	Height       int      `json:"height"`
	R0           float64  `json:"r0"`
	R1           float64  `json:"r1"`
	R2           float64  `json:"r2"`
	Hidden       []int    `json:"hidden"`
	LearningRate float64  `json:"learning_rate"`
	LogZRate     float64  `json:"log_z_rate"`
	Port         int      `json:"port,omitempty"`     // of the head
	Patience     float64  `json:"patience,omitempty"` // seconds that a job without its head is watched
}

// settings reads what both sides share from the job. Only jobs that the Python
// side can train are compared.
func (c *comparison) settings() (*settings, error) {
	spec, err := c.spec("settings")
	if err != nil {
		return nil, err
	}
	if spec.Env.Name != "hypergrid" || len(spec.Policy.Hidden) != 2 || spec.Policy.Activation != "leaky_relu" || spec.Policy.Backward != "joint" || spec.Loss.Divergence != "hellinger" || spec.Replay.Kind != "none" {
		return nil, fmt.Errorf("%s: want a hypergrid, two hidden layers, leaky_relu, a joint backward policy, hellinger and no replay: what the Python side does", c.job)
	}
	var grid struct {
		Dim    int     `json:"dim"`
		Height int     `json:"height"`
		R0     float64 `json:"r0"`
		R1     float64 `json:"r1"`
		R2     float64 `json:"r2"`
	}
	data, err := json.Marshal(spec.Env.Params)
	if err == nil {
		err = json.Unmarshal(data, &grid)
	}
	if err != nil || grid.Dim != parts.GridStop {
		return nil, fmt.Errorf("%s: want a hypergrid of %d dimensions with all its parameters: %w", c.job, parts.GridStop, err)
	}
	return &settings{
		Temp: filepath.Join(os.TempDir(), rayDir(c.id)), CPUs: runtime.NumCPU(), Samplers: parts.Samplers, PerCall: parts.PerCall,
		Seconds: c.seconds.Seconds(), Settle: settle.Seconds(), Window: window(spec).Seconds(), Params: c.params,
		Dim: grid.Dim, Height: grid.Height, R0: grid.R0, R1: grid.R1, R2: grid.R2, Hidden: spec.Policy.Hidden,
		LearningRate: spec.Optimiser.LearningRate.At(0), LogZRate: spec.Optimiser.LogZRate.At(0),
	}, nil
}

func window(spec *job.Spec) time.Duration {
	return time.Duration(spec.Mesh.WindowMS) * time.Millisecond
}

// rayDir is the name of Ray's folder below that of temporary files: the paths of
// its sockets must be short.
func rayDir(id string) string { return "dm-" + id[:8] }

// ray measures Ray's side of a round, at the rate of publication that ours had.
func (c *comparison) ray(ctx context.Context, ours side) (s side, err error) {
	set, err := c.settings()
	if err != nil {
		return s, err
	}
	for _, part := range c.parts {
		if part != "failover" {
			set.Parts = append(set.Parts, part)
		}
	}
	if ours.Ages != nil {
		set.Rate = ours.Ages.Rate
	}
	if len(set.Parts) == 0 {
		return s, nil
	}
	return s, c.script(ctx, "measure.py", set, &s)
}

// headDeath is what became of a Ray job whose head node was killed.
type headDeath struct {
	Killed   int      `json:"killed_processes"`
	Before   int      `json:"updates_before"`
	Last     float64  `json:"last_update_s"` // after the death; 0: none
	Watched  float64  `json:"watched_s"`
	Ended    bool     `json:"driver_ended"`
	ExitCode *int     `json:"driver_exit_code"`
	Said     []string `json:"driver_said"`
}

// patience is how long a job without its head is watched: longer than Ray's own
// timeout for a lost head, one minute.
const patience = 90 * time.Second

// headDeath kills the head node of a Ray cluster of two.
func (c *comparison) headDeath(ctx context.Context) (*headDeath, error) {
	set, err := c.settings()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	set.Port, set.Patience = l.Addr().(*net.TCPAddr).Port, patience.Seconds()
	if err := l.Close(); err != nil {
		return nil, err
	}
	d := new(headDeath)
	return d, c.script(ctx, "head.py", set, d)
}

// script runs a Python script and parses the line that it prints. Whatever it
// started is gone afterwards.
func (c *comparison) script(ctx context.Context, name string, set *settings, out any) error {
	arg, err := json.Marshal(set)
	if err != nil {
		return err
	}
	p, err := parts.Start(c.rayEnv(), c.python, filepath.Join(c.scripts, name), string(arg))
	if err != nil {
		return err
	}
	err = p.Read(ctx, out)
	p.End()
	if _, rerr := reap(c.id); err == nil && rerr != nil {
		return rerr
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.RemoveAll(set.Temp)
}

// rayEnv keeps Ray on loopback, quiet, and out of the user's home. The variable
// that names other systems is the one that makes 127.0.0.1 a node's address. The
// second node of a cluster has 127.0.0.2, where Ray listens to all: hence a token.
func (c *comparison) rayEnv() []string {
	return []string{
		"RAY_USAGE_STATS_ENABLED=0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0", "RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN=" + c.id + c.id,
		"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", // two cores, nine busy processes: more threads only wait for each other
		"HOME=" + filepath.Join(os.TempDir(), rayDir(c.id)), "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH=" + c.scripts,
	}
}
