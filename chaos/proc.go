package chaos

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// nursery starts processes that die with this one, also when it is killed and
// also when they are stopped by a signal at that moment.
type nursery struct {
	jobs chan func()
	done chan struct{}
}

func newNursery() *nursery {
	n := &nursery{jobs: make(chan func()), done: make(chan struct{})}
	go func() { // close waits for it
		defer close(n.done)
		// The kernel kills a child when the thread that started it ends, so all
		// are started by one thread that stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for f := range n.jobs {
			f()
		}
	}()
	return n
}

func (n *nursery) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	n.jobs <- func() { result <- cmd.Start() }
	return <-result
}

// close ends the thread; every process must have ended.
func (n *nursery) close() {
	close(n.jobs)
	<-n.done
}

// Proc is one process of a mesh under test: started, killed and stopped on
// command, and never by itself.
type Proc struct {
	Name string
	// Prefix is put before the command line, such as ip netns exec NAME.
	Prefix []string
	Args   []string // of the driftmesh binary
	Log    string   // file that its output is appended to

	binary  string
	nursery *nursery

	mu      sync.Mutex
	cmd     *exec.Cmd
	stdin   io.Closer // the leash
	exited  chan struct{}
	frozen  bool
	started time.Time
}

// errRunning refuses to start a process twice.
var errRunning = errors.New("the process runs already")

// Start starts the process.
func (p *Proc) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("start %s: %w", p.Name, errRunning)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer log.Close() // the child has its own
	line := append(append(append([]string(nil), p.Prefix...), p.binary), p.Args...)
	line = append(line, "--leash")
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	if err := p.nursery.start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.stdin, p.exited, p.frozen, p.started = cmd, stdin, exited, false, time.Now()
	go func() { // Stop and Kill wait for it
		defer close(exited)
		cmd.Wait() // the exit status is in cmd.ProcessState
	}()
	return nil
}

// running says whether the process has been started and has not ended; mu is held.
func (p *Proc) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Running says whether the process lives, frozen or not.
func (p *Proc) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// Frozen says whether the process is stopped by SIGSTOP.
func (p *Proc) Frozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running() && p.frozen
}

// PID returns the process ID, 0 when it does not run.
func (p *Proc) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	return p.cmd.Process.Pid
}

// Exit returns the channel that is closed when the process ends, and afterwards
// its exit code.
func (p *Proc) Exit() (<-chan struct{}, func() int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := p.cmd
	return p.exited, func() int { return cmd.ProcessState.ExitCode() }
}

// Signal sends a signal to a process that runs.
func (p *Proc) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("signal %s: it does not run", p.Name)
	}
	switch s {
	case syscall.SIGSTOP:
		p.frozen = true
	case syscall.SIGCONT:
		p.frozen = false
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill sends SIGKILL and waits until the process has ended. One that does not
// run is left alone.
func (p *Proc) Kill() error {
	if !p.Running() {
		return nil
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && p.Running() {
		return err
	}
	exited, _ := p.Exit()
	<-exited
	p.release()
	return nil
}

// release closes the leash; waiting for the process may have done so already.
func (p *Proc) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stdin.Close()
}

// endTimeout is how long a process may take to end when it is asked to.
const endTimeout = 10 * time.Second

// Stop asks the process to end, insists after a while, and waits.
func (p *Proc) Stop() error {
	if !p.Running() {
		return nil
	}
	if p.Frozen() {
		return p.Kill()
	}
	if err := p.Signal(syscall.SIGTERM); err != nil && p.Running() {
		return err
	}
	exited, _ := p.Exit()
	select {
	case <-exited:
		p.release()
		return nil
	case <-time.After(endTimeout):
		return errors.Join(fmt.Errorf("stop %s: it did not end within %s", p.Name, endTimeout), p.Kill())
	}
}
