package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/internal/clock"
)

const mib = 1 << 20

// startup is what it takes to begin, and to be there.
type startup struct {
	Installed float64   `json:"installed_mib"`  // a binary, or a package with all that it needs
	First     []float64 `json:"first_update_s"` // from the command to the first update
	PSS       []float64 `json:"pss_mib"`        // in steady state
	RSS       []float64 `json:"rss_mib"`
	Peak      []float64 `json:"peak_rss_mib"`
}

// startups is start.json.
type startups struct {
	header
	Cell    string               `json:"cell"`
	Threads int                  `json:"threads"`
	Sides   map[library]*startup `json:"sides"`
}

// steadySeconds of training, after which memory is looked at.
const steadySeconds = 6

// starts measures every library from a cold process: 4-D height 16, batch 512.
func (c *comparison) starts(ctx context.Context) error {
	k := cell{standard(4, 16), 512}
	out := &startups{header: c.header(), Cell: k.String(), Threads: c.most(), Sides: map[library]*startup{}}
	c.results.Start = out
	for _, lib := range libraries {
		out.Sides[lib] = &startup{Installed: float64(c.sizes[lib]) / mib}
	}
	c.progress.expect(float64(c.rounds * len(libraries)))
	for round := range c.rounds {
		for _, lib := range libraries {
			s := out.Sides[lib]
			r := request{Op: "first", Grid: k.Grid, Batch: k.Batch, Backward: "joint", Seed: uint64(round + 1), LearningRate: learnedRate, LogZRate: learnedZRate}
			err := c.peerStarts(ctx, lib, r, s)
			if lib == ours {
				err = c.weStart(ctx, r, s)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", lib, err)
			}
			c.progress.add(1, "%s: first update after %s s, %.0f MiB (PSS)", lib, short(s.First[round]), s.PSS[round])
		}
	}
	out.Complete = true
	return nil
}

func (c *comparison) peerStarts(ctx context.Context, lib library, r request, s *startup) error {
	if lib == ours {
		return nil
	}
	p, err := c.start(lib, c.most())
	if err != nil {
		return err
	}
	defer p.end()
	var a answer
	if err := p.ask(ctx, r, &a); err != nil {
		return err
	}
	s.First = append(s.First, time.Since(p.began).Seconds())
	r.Op, r.GoOn, r.Seconds, r.Least = "steady", true, steadySeconds, 10
	if err := p.ask(ctx, r, &a); err != nil {
		return err
	}
	return s.weigh(p.cmd.Process.Pid)
}

// weStart runs the real command: one update, until it has ended; then without end.
func (c *comparison) weStart(ctx context.Context, r request, s *startup) error {
	spec, err := r.job()
	if err != nil {
		return err
	}
	text, err := spec.YAML()
	if err != nil {
		return err
	}
	path := filepath.Join(c.dir, "start.yaml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return err
	}
	train := func(updates int) *exec.Cmd {
		return exec.Command(c.binary, "train", path, "--plain", "--fresh", "--runs", filepath.Join(c.dir, "runs"), "--set", "eval.max_states=0", "--set", "train.updates="+strconv.Itoa(updates))
	}
	cmd := train(1)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	if err := pinned(cmd, c.most()); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	err = cmd.Wait()
	stop()
	if err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("driftmesh train: %w\n%s", err, said.Bytes()))
	}
	s.First = append(s.First, time.Since(began).Seconds())
	cmd = train(math.MaxInt32)
	if err := pinned(cmd, c.most()); err != nil {
		return err
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait() // it was killed
	}()
	if err := clock.Rest(ctx, steadySeconds*time.Second); err != nil {
		return err
	}
	return s.weigh(cmd.Process.Pid)
}

// weigh reads the memory of a process.
func (s *startup) weigh(pid int) error {
	pss, err := chaos.PSS(pid)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	rss, peak := statusMiB(data, "VmRSS:"), statusMiB(data, "VmHWM:")
	s.PSS, s.RSS, s.Peak = append(s.PSS, float64(pss)/mib), append(s.RSS, rss), append(s.Peak, peak)
	return nil
}

// statusMiB reads a line in kB.
func statusMiB(status []byte, name string) float64 {
	for scan := bufio.NewScanner(bytes.NewReader(status)); scan.Scan(); {
		if value, ok := strings.CutPrefix(scan.Text(), name); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			if err == nil {
				return kb / 1024
			}
		}
	}
	return math.NaN()
}
