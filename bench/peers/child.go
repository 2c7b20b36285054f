package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process of a measurement: a library on so many cores.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Reader
	errors tail
	once   sync.Once
	began  time.Time
}

// pinned starts a process on the first cores; every thread that it starts
// inherits them. It has a process group of its own, so that Ctrl-C reaches it
// through us only.
func pinned(cmd *exec.Cmd, threads int) error {
	cmd.Env = append(os.Environ(),
		"GOMAXPROCS="+strconv.Itoa(threads), "OMP_NUM_THREADS="+strconv.Itoa(threads), "MKL_NUM_THREADS="+strconv.Itoa(threads),
		"DRIFTMESH_BENCH_THREADS="+strconv.Itoa(threads), "PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore", "JAX_PLATFORMS=cpu",
	)
	// OpenMP's threads (torch) that spin while they wait made updates up to 20 times
	// slower here as soon as anything else ran.
	if os.Getenv("OMP_WAIT_POLICY") == "" {
		cmd.Env = append(cmd.Env, "OMP_WAIT_POLICY=PASSIVE")
	}
	if threads == 1 {
		cmd.Env = append(cmd.Env, "XLA_FLAGS=--xla_cpu_multi_thread_eigen=false")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	for cpu, left := 0, threads; left > 0; cpu++ {
		if cpu >= 64*len(before) {
			return fmt.Errorf("%d threads: want at most %d, the cores of this process", threads, before.Count())
		}
		if before.IsSet(cpu) {
			set.Set(cpu)
			left--
		}
	}
	runtime.LockOSThread() // the child has the affinity of the thread that starts it
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return os.NewSyscallError("sched_setaffinity", err)
	}
	err := cmd.Start()
	return errors.Join(err, os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &before)))
}

// start starts the process of a library that answers requests.
func (c *comparison) start(lib library, threads int) (*child, error) {
	cmd := exec.Command(c.exe, "driftmesh")
	if lib != ours {
		cmd = exec.Command(c.python, filepath.Join(c.scripts, "with_"+string(lib)+".py"))
	}
	p := &child{cmd: cmd}
	cmd.Stderr = &p.errors
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// A pipe of our own: what a process wrote last can be read after it has ended.
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdout.Close() // the child has its own
	cmd.Stdout = stdout
	p.stdin, p.lines, p.began = stdin, bufio.NewReader(out), time.Now()
	if err := pinned(cmd, threads); err != nil {
		return nil, fmt.Errorf("start %s: %w", lib, err)
	}
	return p, nil
}

// worker is the process of a library on so many cores; it lives as long as the
// comparison, so that nothing is compiled twice.
func (c *comparison) worker(lib library, threads int) (*child, error) {
	key := fmt.Sprintf("%s-%d", lib, threads)
	if p := c.workers[key]; p != nil {
		return p, nil
	}
	p, err := c.start(lib, threads)
	if err == nil {
		c.workers[key] = p
	}
	return p, err
}

// dismiss ends the processes that wait for requests.
func (c *comparison) dismiss() {
	for key, p := range c.workers {
		p.end()
		delete(c.workers, key)
	}
}

// ask sends one request and parses the answer. When ctx ends first the process
// is killed.
func (p *child) ask(ctx context.Context, r request, out any) error {
	stop := context.AfterFunc(ctx, func() { p.cmd.Process.Kill() })
	defer stop()
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = p.stdin.Write(append(line, '\n'))
	if err == nil {
		line, err = p.lines.ReadBytes('\n')
	}
	if err != nil {
		p.end()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s ended early: %w\n%s", filepath.Base(p.cmd.Path), err, p.errors.text())
	}
	if err := json.Unmarshal(line, out); err != nil {
		return fmt.Errorf("%s wrote %q: %w", filepath.Base(p.cmd.Path), line, err)
	}
	return nil
}

// end closes what the process reads and waits; one that does not end is killed.
func (p *child) end() {
	p.stdin.Close()
	t := time.AfterFunc(5*time.Second, func() { p.cmd.Process.Kill() })
	defer t.Stop()
	p.once.Do(func() { p.cmd.Wait() }) // the exit status is of no interest: it was told to end
}

// tail keeps the end of what a process complained about.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-4000):]
	return len(p), nil
}

func (t *tail) text() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.TrimSpace(bytes.Clone(t.kept))
}
