package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is one process that is kept alive.
type child struct {
	mesh *Mesh
	name string
	args []string

	mu      sync.Mutex
	ending  bool // no more starts
	cmd     *exec.Cmd
	stopped chan struct{} // closed when the process has ended for good
	leash   io.Closer     // the child ends when this closes, also if this process is killed
}

var errEnding = errors.New("the mesh is ending")

const (
	firstRestart = 100 * time.Millisecond
	lastRestart  = 5 * time.Second
	// aliveAfter is how long a process must have run for its death not to count
	// as a failed start.
	aliveAfter = 3 * time.Second
	maxStarts  = 5 // failed starts in a row before giving up
	// stopTimeout is how long a child may take to end when it is asked to.
	stopTimeout = 10 * time.Second
)

// spawn starts a child and keeps it alive until ctx ends.
func (m *Mesh) spawn(ctx context.Context, name string, args []string) error {
	if _, err := os.Stat(m.dir(name)); err == nil { // it was used before, and may still be
		if _, err := clusterID(m.dir(name)); err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
	}
	for _, dir := range m.cfg.Plugins {
		args = append(args, "--allow-plugins", dir)
	}
	c := &child{mesh: m, name: name, args: append(args, "--leash"), stopped: make(chan struct{})}
	if err := c.start(); err != nil {
		return err
	}
	m.mu.Lock()
	m.children[name] = c
	m.mu.Unlock()
	m.loops.Go(func() { c.keep(ctx) })
	return nil
}

func (c *child) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return errEnding
	}
	log, err := openLog(c.mesh.LogPath(c.name))
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(c.mesh.cfg.Binary, c.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the parent, which ends children in order
	leash, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	c.cmd, c.leash = cmd, leash
	return nil
}

// keep waits for the process and starts it again while ctx lives.
func (c *child) keep(ctx context.Context) {
	defer close(c.stopped)
	wait, failures := firstRestart, 0
	for {
		began := time.Now()
		err := c.cmd.Wait()
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= aliveAfter {
			wait, failures = firstRestart, 0
		} else {
			failures++
		}
		// Exit code 2 at the start is bad input, which a restart does not cure;
		// later it is a panic of Go's runtime.
		refused := failures > 0 && c.cmd.ProcessState.ExitCode() == 2
		if failures >= maxStarts || refused {
			c.mesh.giveUp(fmt.Errorf("%s ends as soon as it starts (%v): %s", c.name, err, lastLine(c.mesh.LogPath(c.name))))
			return
		}
		c.mesh.event("%s died (%v), restarting", c.name, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, lastRestart)
		if err := c.start(); err != nil {
			if !errors.Is(err, errEnding) {
				c.mesh.giveUp(err)
			}
			return
		}
	}
}

func (c *child) kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cmd.Process.Kill()
}

// stop asks the process to end, and insists after a while.
func (c *child) stop() {
	c.mu.Lock()
	c.ending = true
	c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	c.leash.Close()
	c.mu.Unlock()
	select {
	case <-c.stopped:
		return
	case <-time.After(stopTimeout):
	}
	c.mesh.event("%s did not end within %s, killing it", c.name, stopTimeout)
	c.kill()
	<-c.stopped
}

// lastLine is the end of a log, for an error message.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const tail = 4096
	if info, err := f.Stat(); err == nil && info.Size() > tail {
		f.Seek(-tail, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
