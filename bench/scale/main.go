// Command scale measures how a local mesh scales where rewards take time, fits a
// queueing model to the rates and predicts those of 1,000 workers: `make
// bench-scale` calls it. Every measurement is a run of `driftmesh bench scale`.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/internal/scaling"
)

// predicted is the number of workers that the model is asked for.
const predicted = 1000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "interrupted")
		os.Exit(130)
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

// campaign is what is measured.
type campaign struct {
	binary, runs, out string
	workers, beyond   string
	delays            []float64 // milliseconds
	rollout           int
	intervals         int
	interval          time.Duration
	seed              uint64
}

func run(ctx context.Context, args []string) error {
	var c campaign
	var delays string
	var alone int
	fl := flag.NewFlagSet("scale", flag.ContinueOnError)
	fl.StringVar(&c.binary, "binary", "bin/driftmesh", "the command that is measured")
	fl.StringVar(&c.runs, "runs", "runs", "folder of the single measurements")
	fl.StringVar(&c.out, "out", "bench/scale/results", "folder of the results")
	fl.StringVar(&c.workers, "workers", "1,2,4,8,16,32,64", "numbers of worker slots")
	fl.StringVar(&c.beyond, "beyond", "128,256", "more slots with the fastest reward only, for the model to see where rates end; \"\" for none")
	fl.StringVar(&delays, "delays", "1,3,10,30,100", "milliseconds that a reward sleeps")
	fl.IntVar(&c.rollout, "rollout", 8, "trajectories that a slot samples at once")
	fl.IntVar(&c.intervals, "intervals", 5, "intervals per measurement")
	fl.DurationVar(&c.interval, "interval", 2*time.Second, "shortest interval; slow rewards have four rounds")
	fl.IntVar(&alone, "bare", 0, "only sleep, on so many goroutines, and print the rate")
	fl.Uint64Var(&c.seed, "seed", 1, "of the jobs and of the model's intervals")
	if err := fl.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	for _, text := range strings.Split(delays, ",") {
		d, err := strconv.ParseFloat(text, 64)
		if err != nil || !(d >= 0) {
			return fmt.Errorf("%w: -delays: got %q; want milliseconds with commas between them", errUsage, text)
		}
		c.delays = append(c.delays, d)
	}
	if alone > 0 {
		return sleepAlone(alone, time.Duration(c.delays[0]*float64(time.Millisecond)), c.interval)
	}
	began := time.Now()
	r := &results{Machine: parts.Machine(), Rollout: c.rollout, Seed: c.seed}
	for _, d := range c.delays {
		workers := c.workers
		if c.beyond != "" && d == slices.Min(c.delays) {
			workers += "," + c.beyond
		}
		s, err := c.measure(ctx, d, workers)
		if err != nil {
			return fmt.Errorf("%g ms per reward: %w", d, err)
		}
		r.Series = append(r.Series, *s)
	}
	r.Took = time.Since(began).Seconds()
	if err := r.fit(c.seed); err != nil {
		return err
	}
	return r.publish(c.out)
}

// series is the measurements with one delay, as `driftmesh bench scale --json` has them.
type series struct {
	DelayMS float64 `json:"reward_delay_ms"`
	Version string  `json:"version"`
	Points  []point `json:"points"`
	Bare    []bare  `json:"bare_sleeps"` // of the fewest and the most slots, right after
}

type point struct {
	Workers    int                `json:"workers"`
	Rate       scaling.Estimate   `json:"rate"`
	Efficiency scaling.Estimate   `json:"efficiency"`
	Bottleneck scaling.Bottleneck `json:"bottleneck"`
	Load       scaling.Load       `json:"load"`
	WindowMS   float64            `json:"window_ms"`
	CommitMS   float64            `json:"commit_ms"`
	Rates      []float64          `json:"rates"`
}

// measure runs the benchmark with one delay.
func (c *campaign) measure(ctx context.Context, delay float64, workers string) (*series, error) {
	round := time.Duration(float64(c.rollout) * delay * float64(time.Millisecond))
	cmd := exec.CommandContext(ctx, c.binary, "bench", "scale", "--json", "--strong",
		"--workers", workers, "--runs", c.runs, "--warmup", "1500ms",
		"--intervals", strconv.Itoa(c.intervals), "--interval", max(c.interval, 4*round).String(),
		"--set", fmt.Sprintf("name=scale-%gms", delay), "--set", fmt.Sprintf("seed=%d", c.seed),
		"--set", fmt.Sprintf("sampling.reward_delay_ms=%g", delay), "--set", fmt.Sprintf("mesh.rollout=%d", c.rollout))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // told to end once, by Cancel
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	var s series
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		return nil, fmt.Errorf("what %s printed: %w", c.binary, err)
	}
	for _, p := range s.Points {
		fmt.Fprintf(os.Stderr, "%6g ms %4d workers %10.1f trajectories/s, efficiency %.3f, bound by %s\n", delay, p.Workers, p.Rate.Value, p.Efficiency.Value, p.Bottleneck)
	}
	if len(s.Points) == 0 || delay == 0 {
		return &s, nil
	}
	for _, p := range []point{s.Points[0], s.Points[len(s.Points)-1]} {
		b, err := sleepBeside(ctx, p.Workers, delay, max(c.interval, 4*round))
		if err != nil {
			return nil, err
		}
		s.Bare = append(s.Bare, b)
	}
	return &s, nil
}
