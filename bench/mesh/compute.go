package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/internal/clock"
)

// course is a run of the binary on a job whose reward costs nothing: sampling and
// training bound it.
type course struct {
	Command string  `json:"command"`
	Rate    float64 `json:"trajectories_trained_per_second"`
	Lag     float64 `json:"lag_updates"`   // median over the run
	Cores   float64 `json:"cores"`         // that the processes used
	Workers float64 `json:"workers_share"` // of the processor time
	CPU     float64 `json:"cpu_us_per_trajectory"`
}

// compute compares `up` with `train`.
type compute struct {
	Batch    int      `json:"batch"`
	OnPolicy course   `json:"train"`
	Lagged   course   `json:"train_at_equal_lag"`
	Up       []course `json:"up"`
	Best     int      `json:"best"` // of Up
	Kept     float64  `json:"up_over_train_at_equal_lag"`
	KeptOn   float64  `json:"up_over_train_on_policy"`
}

// compute runs `up` with several numbers of workers, and `train` on-policy and at
// the lag that the fastest of those had.
func (b *bench) compute(ctx context.Context) (*compute, error) {
	out := &compute{Batch: b.batch}
	var err error
	if out.OnPolicy, err = b.course(ctx, "train"); err != nil {
		return nil, err
	}
	workers := []int{1, 2, 3}
	if b.short {
		workers = []int{1, 2}
	}
	for i, n := range workers {
		c, err := b.course(ctx, "up", "--servers", "1", "--workers", strconv.Itoa(n))
		if err != nil {
			return nil, err
		}
		if out.Up = append(out.Up, c); c.Rate > out.Up[out.Best].Rate {
			out.Best = i
		}
	}
	best := out.Up[out.Best]
	if out.Lagged, err = b.course(ctx, "train", "--lag", strconv.Itoa(max(1, int(best.Lag+0.5)))); err != nil {
		return nil, err
	}
	out.Kept, out.KeptOn = best.Rate/out.Lagged.Rate, best.Rate/out.OnPolicy.Rate
	return out, nil
}

// course runs a command of the binary as often as a comparison needs.
func (b *bench) course(ctx context.Context, command string, flags ...string) (course, error) {
	var all []course
	for range b.repeats {
		c, err := b.run(ctx, command, flags...)
		if err != nil {
			return c, err
		}
		all = append(all, c)
	}
	c := middle(all, func(c *course) []*float64 { return []*float64{&c.Rate, &c.Lag, &c.Cores, &c.Workers, &c.CPU} })
	c.Command = all[0].Command
	return c, nil
}

// run runs a command of the binary for a while and reads its run folder.
func (b *bench) run(ctx context.Context, command string, flags ...string) (c course, err error) {
	c.Command = strings.TrimSpace("driftmesh " + command + " JOB " + strings.Join(flags, " "))
	dir, err := os.MkdirTemp(b.dir, command+"-")
	if err != nil {
		return c, err
	}
	args := append([]string{command, b.job, "--runs", dir, "--plain"}, flags...)
	for _, set := range []string{
		"name=course", "train.updates=1000000000", "train.batch=" + strconv.Itoa(b.batch), "mesh.rollout=" + strconv.Itoa(b.batch),
		"eval.every=20", "eval.max_states=0", "seed=1",
	} {
		args = append(args, "--set", set)
	}
	cmd := exec.Command(b.binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return c, err
	}
	interrupt := context.AfterFunc(ctx, func() { cmd.Process.Signal(os.Interrupt) })
	defer interrupt()
	usage, err := b.observe(ctx, cmd.Process.Pid)
	cmd.Process.Signal(os.Interrupt)
	kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer kill.Stop()
	cmd.Wait() // a run that was interrupted says so with its exit code
	if err != nil {
		return c, errors.Join(err, fmt.Errorf("%s: %s", c.Command, said.Bytes()[max(0, said.Len()-2000):]))
	}
	if err := c.read(filepath.Join(dir, "course")); err != nil {
		return c, fmt.Errorf("%s: %w: %s", c.Command, err, said.Bytes()[max(0, said.Len()-2000):])
	}
	c.Cores, c.Workers = usage.all/usage.seconds, usage.workers/usage.all
	c.CPU = 1e6 * c.Cores / c.Rate
	return c, nil
}

// usage is what the processes of a run used while it was under way, in seconds.
type usage struct{ seconds, all, workers float64 }

// settling is how long a run is left alone before it counts: processes start,
// workers find the job, the window and the lag find their length.
const settling = 3 * time.Second

// observe lets a run go on, and says what its processes used of its second part.
func (b *bench) observe(ctx context.Context, pid int) (u usage, err error) {
	if err := clock.Rest(ctx, settling); err != nil {
		return u, err
	}
	workers, others, err := family(pid)
	if err != nil {
		return u, err
	}
	w, o, err := both(workers, others)
	if err != nil {
		return u, err
	}
	began := time.Now()
	if err := clock.Rest(ctx, 3*b.long/2); err != nil {
		return u, err
	}
	w2, o2, err := both(workers, others)
	u.seconds, u.workers = time.Since(began).Seconds(), (w2 - w).Seconds()
	u.all = u.workers + (o2 - o).Seconds()
	return u, err
}

func both(workers, others []int) (w, o time.Duration, err error) {
	if w, err = parts.UsedCPU(workers); err == nil {
		o, err = parts.UsedCPU(others)
	}
	return w, o, err
}

// family finds the processes of a run: the command itself and its children.
func family(pid int) (workers, others []int, err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, nil, err
	}
	others = []int{pid}
	for _, path := range dirs {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		child, parent, ok := parentOf(string(stat))
		if !ok || parent != pid {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err != nil {
			continue
		}
		if args := strings.Split(string(line), "\x00"); len(args) > 1 && args[1] == "worker" {
			workers = append(workers, child)
		} else {
			others = append(others, child)
		}
	}
	return workers, others, nil
}

// parentOf reads a process and its parent from /proc/PID/stat, where the name of
// the program stands in parentheses and may hold anything.
func parentOf(stat string) (pid, parent int, ok bool) {
	end := strings.LastIndexByte(stat, ')')
	begin := strings.IndexByte(stat, ' ')
	if end < 0 || begin < 0 || begin > end {
		return 0, 0, false
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 2 {
		return 0, 0, false
	}
	pid, err1 := strconv.Atoi(stat[:begin])
	parent, err2 := strconv.Atoi(fields[1])
	return pid, parent, err1 == nil && err2 == nil
}

// read takes rate and lag from a run's folder: of the last two thirds of its time.
func (c *course) read(dir string) error {
	type row struct {
		Version      int64   `json:"version"`
		Trajectories float64 `json:"trajectories"`
		Seconds      float64 `json:"seconds"`
		Lag          struct {
			Median float64 `json:"median"`
		} `json:"lag"`
	}
	rows := map[int64]*row{}
	var order []*row
	for _, name := range []string{"metrics.jsonl", "timings.jsonl"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
			var r row
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				continue // the last line of a run that was interrupted may be torn
			}
			if known := rows[r.Version]; known != nil {
				known.Seconds = r.Seconds
			} else {
				rows[r.Version] = &r
				order = append(order, &r)
			}
		}
	}
	for len(order) > 0 && order[len(order)-1].Seconds == 0 {
		order = order[:len(order)-1]
	}
	if len(order) < 3 {
		return fmt.Errorf("%d rows in %s, want at least 3", len(order), dir)
	}
	last := order[len(order)-1]
	for len(order) > 2 && order[0].Seconds < last.Seconds/3 {
		order = order[1:]
	}
	var lags []float64
	for _, r := range order[1:] {
		lags = append(lags, r.Lag.Median)
	}
	c.Rate = (last.Trajectories - order[0].Trajectories) / (last.Seconds - order[0].Seconds)
	c.Lag = median(lags)
	return nil
}
