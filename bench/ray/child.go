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
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// marker is the environment variable that every process of a run carries, and
// the processes that those start: Ray's daemons outlive their parent.
const marker = "DRIFTMESH_BENCH_RUN"

// child is a process of a measurement.
type child struct {
	cmd    *exec.Cmd
	leash  io.Closer
	lines  *bufio.Reader
	errors bytes.Buffer
	once   sync.Once
}

// start starts a process, which carries the marker as this one does, whose lines can be read; it has a process group of its
// own, so that Ctrl-C reaches it through us only.
func (c *comparison) start(name string, args ...string) (*child, error) {
	p := &child{cmd: exec.Command(name, args...)}
	p.cmd.Env = append(os.Environ(), c.rayEnv()...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stderr = &p.errors
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// A pipe of our own: what a process wrote last can be read after it has ended.
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdout.Close() // the child has its own
	p.cmd.Stdout = stdout
	p.leash, p.lines = stdin, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(name), err)
	}
	return p, nil
}

// self starts a command of this binary.
func (c *comparison) self(args ...string) (*child, error) { return c.start(c.exe, args...) }

// read parses the next line. When ctx ends first the process is killed.
func (p *child) read(ctx context.Context, v any) error {
	stop := context.AfterFunc(ctx, func() { p.cmd.Process.Kill() })
	defer stop()
	line, err := p.lines.ReadBytes('\n')
	if err != nil {
		p.end()
		return fmt.Errorf("%s ended early: %w\n%s", filepath.Base(p.cmd.Path), cmpErr(ctx.Err(), err), tail(p.errors.Bytes()))
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("%s wrote %q: %w", filepath.Base(p.cmd.Path), line, err)
	}
	return nil
}

// scan parses the next line of a process that may end.
func (p *child) scan(v any) error {
	line, err := p.lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func tail(text []byte) []byte { return bytes.TrimSpace(text[max(0, len(text)-2000):]) }

// end lets go of the leash and waits; a process that does not end is killed.
func (p *child) end() {
	p.leash.Close()
	t := time.AfterFunc(10*time.Second, func() { p.cmd.Process.Kill() })
	defer t.Stop()
	p.once.Do(func() { p.cmd.Wait() }) // the exit status is of no interest: it was told to end
}

// adopt makes this process the parent of what its children leave behind, so that
// reap can take leave of it: not every container has an init that does.
func adopt() error {
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}

// reap kills what carries the marker of this run, and says how many there were.
func reap(id string) (n int, err error) {
	want := []byte(marker + "=" + id)
	killed := map[int]bool{}
	for range 50 {
		pids, err := carriers(want)
		if err != nil {
			return len(killed), err
		}
		for _, pid := range pids {
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed[pid] = true
			}
		}
		for pid := range killed {
			syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // fails for those that others wait for
		}
		if len(pids) == 0 {
			return len(killed), nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return len(killed), errors.New("processes of this run do not end")
}

// carriers are the processes, but for this one, with an entry in their environment.
func carriers(entry []byte) (pids []int, err error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", d.Name(), "environ"))
		if err != nil {
			continue // it has ended, or is another user's
		}
		for field := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(field, entry) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids, nil
}
