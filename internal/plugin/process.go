package plugin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one running plugin, for one caller at a time.
type process struct {
	cmd    *exec.Cmd
	in     *os.File // its standard input
	out    *os.File // its standard output
	reader *bufio.Reader
	last   *tail
	mark   string // of it and what it starts
	id     uint64
	wbuf   []byte
	rbuf   []byte
}

const (
	// patience is how long a process may take to end once its input has ended.
	patience = time.Second
	// afterwards is how long the pipe of a process that has ended may stay open: a
	// process that it started may hold it.
	afterwards = time.Second
)

// start runs a program. It has said nothing yet.
func start(args []string, dir string, logger *slog.Logger) (*process, error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, childIn.Close(), in.Close())
	}
	p := &process{in: in, out: out, reader: bufio.NewReaderSize(out, 64<<10), last: &tail{logger: logger}, mark: newMark()}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), p.mark)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = childIn, childOut, p.last
	p.cmd.WaitDelay = afterwards
	// A group of its own: Ctrl-C is for driftmesh, and what the plugin starts ends with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = p.cmd.Start()
	err = errors.Join(err, childIn.Close(), childOut.Close())
	if err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	return p, nil
}

// call sends a request and waits for its answer. After any error but errOversized
// the process cannot be used again.
func (p *process) call(ctx context.Context, req *Request, timeout time.Duration) (*Reply, error) {
	deadline := time.Now().Add(timeout)
	if err := errors.Join(p.in.SetDeadline(deadline), p.out.SetDeadline(deadline)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		past := time.Unix(1, 0)
		p.in.SetDeadline(past)
		p.out.SetDeadline(past)
	})
	defer stop()
	p.id++
	sent := *req
	sent.ID = p.id
	reply := &Reply{}
	var err error
	if p.wbuf, err = writeFrame(p.in, &sent, p.wbuf); err == nil {
		if p.rbuf, err = readFrame(p.reader, reply, p.rbuf); err == nil {
			err = reply.check(&sent)
		}
	}
	switch {
	case err == nil, errors.Is(err, errOversized):
		return reply, err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("no answer within %s", timeout)
	case errors.Is(err, syscall.EPIPE):
		return nil, p.obituary(req.Op, "input")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, p.obituary(req.Op, "output")
	case errors.Is(err, ErrProtocol) && req.Op == OpHello:
		return nil, fmt.Errorf("%w; standard output belongs to the protocol until driftmesh.serve(...) has taken it: print nothing before", err)
	}
	return nil, err
}

// death is how a process ended by itself, not by a signal.
type death struct{ text string }

func (d *death) Error() string { return d.text }

// obituary ends a process that closed one of its pipes instead of answering, and says
// how it died.
func (p *process) obituary(op, pipe string) error {
	killed := p.end(patience) // with its input open: nothing tells it to end
	said := ""
	if text := p.last.text(); text != "" {
		said = ": " + text
	}
	state := p.cmd.ProcessState
	switch {
	case state == nil:
		return fmt.Errorf("the process died%s", said)
	case killed:
		return fmt.Errorf("it closed its standard %s and went on running%s", pipe, said)
	case state.Success() && op == OpHello:
		return &death{fmt.Sprintf("it ended without serving (%s); a script of Python ends with driftmesh.serve(...)%s", state, said)}
	case state.Exited():
		return &death{fmt.Sprintf("the process died (%s)%s", state, said)}
	}
	return fmt.Errorf("the process died (%s)%s", state, said)
}

// stop closes the input, waits a moment, kills what is left, and reaps it.
func (p *process) stop(wait time.Duration) {
	if p.cmd.ProcessState != nil {
		return
	}
	p.in.Close()
	p.end(wait)
}

// end waits a moment for the process to end, kills what is left, and reaps it. It says
// whether it was still running.
func (p *process) end(wait time.Duration) (killed bool) {
	timer := time.AfterFunc(wait, p.kill)
	p.cmd.Wait() // its error is its exit code
	if !timer.Stop() && p.cmd.ProcessState != nil {
		status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
		killed = ok && status.Signal() == syscall.SIGKILL
	}
	p.in.Close()
	p.out.Close()
	p.kill() // what it started
	killMarked(p.mark)
	return killed
}

// kill ends the process and its group.
func (p *process) kill() { syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// tail logs a plugin's standard error line by line and remembers the last one.
type tail struct {
	logger *slog.Logger

	mu      sync.Mutex
	pending []byte
	last    string
	since   time.Time
	lines   int
}

const (
	maxLine        = 2000
	maxLinesSecond = 100 // what is more is dropped
)

// Write implements io.Writer.
func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := data; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		if room := maxLine - len(t.pending); room > 0 {
			t.pending = append(t.pending, line[:min(room, len(line))]...)
		}
		if ended {
			t.line()
		}
		rest = after
	}
	return len(data), nil
}

func (t *tail) line() {
	text := strings.TrimRight(strings.ToValidUTF8(string(t.pending), "?"), " \r")
	t.pending = t.pending[:0]
	if text == "" {
		return
	}
	t.last = text
	if now := time.Now(); now.Sub(t.since) > time.Second {
		t.since, t.lines = now, 0
	}
	if t.lines++; t.lines <= maxLinesSecond {
		t.logger.Info("plugin says", "text", text)
	}
}

// text is the last line of a process that has ended.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line() // it may end without a line break
	return Plain(t.last)
}
