package parts

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Child is a process of a measurement.
type Child struct {
	cmd    *exec.Cmd
	leash  io.WriteCloser
	lines  *bufio.Reader
	errors bytes.Buffer
	once   sync.Once
}

// Start starts a process whose lines can be read, with more environment than this
// one has; it has a process group of its own, so that Ctrl-C reaches it through us only.
func Start(env []string, name string, args ...string) (*Child, error) {
	p := &Child{cmd: exec.Command(name, args...)}
	p.cmd.Env = append(os.Environ(), env...)
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

// Self starts a command of this binary.
func Self(args ...string) (*Child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return Start(nil, exe, args...)
}

// PID is the process's number.
func (p *Child) PID() int { return p.cmd.Process.Pid }

// Errors is the end of what the process wrote to its standard error. It may be
// read once the process has ended.
func (p *Child) Errors() []byte { return tail(p.errors.Bytes()) }

// Write gives the process a line on its standard input.
func (p *Child) Write(line string) error {
	_, err := io.WriteString(p.leash, line+"\n")
	return err
}

// Read parses the next line. When ctx ends first the process is killed.
func (p *Child) Read(ctx context.Context, v any) error {
	stop := context.AfterFunc(ctx, func() { p.cmd.Process.Kill() })
	defer stop()
	line, err := p.lines.ReadBytes('\n')
	if err != nil {
		p.End()
		return fmt.Errorf("%s ended early: %w\n%s", filepath.Base(p.cmd.Path), cmpErr(ctx.Err(), err), tail(p.errors.Bytes()))
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("%s wrote %q: %w", filepath.Base(p.cmd.Path), line, err)
	}
	return nil
}

// Scan parses the next line of a process that may end.
func (p *Child) Scan(v any) error {
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

// End lets go of the leash and waits; a process that does not end is killed.
func (p *Child) End() {
	p.leash.Close()
	t := time.AfterFunc(10*time.Second, func() { p.cmd.Process.Kill() })
	defer t.Stop()
	p.once.Do(func() { p.cmd.Wait() }) // the exit status is of no interest: it was told to end
}
