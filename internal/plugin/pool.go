package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// ErrFailed says that a plugin did not answer, however often it was started and
// asked again. It may do so later.
var ErrFailed = errors.New("plugin failed")

// Backoff between the starts of a plugin that fails.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// Pool is the processes of one command. It is safe for concurrent use: a request
// takes a free process, starts it where it does not run, and starts it again and
// repeats itself where it fails.
type Pool struct {
	command Command
	args    []string
	dir     string
	logger  *slog.Logger
	ctx     context.Context // of the Host
	free    chan *slot      // all slots that are not in use

	mu       sync.Mutex
	hello    *Reply // of the first process; the others must agree
	ended    string // how the last process ended before any answered hello
	failures int    // in a row
	again    time.Time
}

// slot is the place of one process.
type slot struct {
	p    *process // nil: none runs
	used time.Time
}

func newPool(ctx context.Context, c Command, args []string, dir string, logger *slog.Logger) *Pool {
	p := &Pool{command: c, args: args, dir: dir, ctx: ctx, free: make(chan *slot, c.Processes), logger: logger.With("plugin", c.String())}
	for range c.Processes {
		p.free <- &slot{}
	}
	return p
}

// String is the command.
func (p *Pool) String() string { return p.command.String() }

// Hello is what the plugin says of itself: its kind, name, data and, for an
// environment, its shape and first state. It starts a process if none ever ran.
func (p *Pool) Hello(ctx context.Context) (*Reply, error) {
	p.mu.Lock()
	known := p.hello
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	err := p.with(ctx, p.command.Retries, func(ctx context.Context, s *slot) error { return nil })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hello, err
}

// Call answers a request of at most Batch items. The reply's Errors are those of
// items; everything else is an error that names the command. It wraps ErrFailed
// when processes died, hung or broke the protocol more often than Retries allows.
func (p *Pool) Call(ctx context.Context, req *Request) (*Reply, error) {
	return p.call(ctx, p.command.Retries, req)
}

func (p *Pool) call(ctx context.Context, retries int, req *Request) (*Reply, error) {
	var reply *Reply
	err := p.with(ctx, retries, func(ctx context.Context, s *slot) (err error) {
		reply, err = s.p.call(ctx, req, p.command.Timeout)
		return err
	})
	if err != nil {
		return nil, err
	}
	if reply.Error != "" {
		return nil, fmt.Errorf("plugin %s: %s: %s", p, req.Op, reply.Error)
	}
	return reply, nil
}

// Each answers a request of any size in parts of at most Batch items, as many at
// once as there are processes, and hands every part's reply to take, one after
// the other, with the number of its first item.
func (p *Pool) Each(ctx context.Context, req *Request, take func(first int, reply *Reply) error) error {
	return p.each(ctx, req, p.Call, take)
}

func (p *Pool) each(ctx context.Context, req *Request, call func(context.Context, *Request) (*Reply, error), take func(first int, reply *Reply) error) error {
	n, batch := req.Len(), p.command.Batch
	if n <= batch {
		reply, err := call(ctx, req)
		if err != nil {
			return err
		}
		return take(0, reply)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		parts = make(chan int)
	)
	for range min(p.command.Processes, (n+batch-1)/batch) {
		wg.Go(func() {
			for first := range parts {
				reply, err := call(ctx, req.slice(first, min(first+batch, n)))
				if err == nil {
					mu.Lock()
					err = take(first, reply)
					mu.Unlock()
				}
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for first := 0; first < n && ctx.Err() == nil; first += batch {
		select {
		case parts <- first:
		case <-ctx.Done():
		}
	}
	close(parts)
	wg.Wait()
	return context.Cause(ctx)
}

// with gives use a process that runs, and another one when it fails, retries times.
func (p *Pool) with(ctx context.Context, retries int, use func(context.Context, *slot) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	var s *slot
	select {
	case s = <-p.free:
	case <-ctx.Done():
		return p.wrap(ctx.Err())
	}
	defer func() { s.used = time.Now(); p.free <- s }()
	for try := 0; ; try++ {
		err := p.run(ctx, s)
		if err == nil {
			if err = use(ctx, s); err == nil {
				p.succeeded()
				return nil
			}
		}
		if errors.Is(err, errOversized) || errors.Is(err, errForeign) {
			return p.wrap(err)
		}
		if s.p != nil {
			s.p.stop(0)
			s.p = nil
		}
		if ctx.Err() != nil {
			return p.wrap(ctx.Err())
		}
		p.failed()
		if errors.Is(err, errStillborn) {
			return p.wrap(fmt.Errorf("%w: %w", ErrFailed, err))
		}
		if try >= retries {
			return p.wrap(fmt.Errorf("%w %d times: %w", ErrFailed, try+1, err))
		}
		p.logger.Warn("plugin failed, it is started again", "failures", try+1, "error", err)
	}
}

func (p *Pool) wrap(err error) error { return fmt.Errorf("plugin %s: %w", p, err) }

func (p *Pool) succeeded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = 0
}

// failed sets when the next process may start.
func (p *Pool) failed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.again = time.Now().Add(min(lastPause, firstPause<<min(p.failures, 10)))
	p.failures++
}

// hurry lets the next process start at once: a search has bounds of its own.
func (p *Pool) hurry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures, p.again = 0, time.Time{}
}

// errForeign is the fault of a program that no restart cures.
var errForeign = errors.New("cannot be used")

// run starts a process in the slot if there is none, and greets it.
func (p *Pool) run(ctx context.Context, s *slot) error {
	if s.p != nil {
		return nil
	}
	p.mu.Lock()
	wait := time.Until(p.again)
	p.mu.Unlock()
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	proc, err := start(p.args, p.dir, p.logger)
	if err != nil {
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	s.p = proc
	hello, err := proc.call(ctx, &Request{Op: OpHello, Protocol: Protocol, Params: p.command.Params}, max(startTimeout, p.command.Timeout))
	if err != nil {
		return p.stillborn(err)
	}
	if err = p.greeted(hello); err != nil {
		proc.stop(0)
		s.p = nil
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	return nil
}

// errStillborn is the fault of a program that does not come to serve, whoever asks.
var errStillborn = errors.New("it cannot start")

// stillborn finds out that a program cannot start: none of its processes ever answered
// hello, and two in a row ended by themselves, or wrote no protocol, in the same way. A
// missing module stays missing; a signal or a slow start may be of the moment.
func (p *Pool) stillborn(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var d *death
	if p.hello != nil || !errors.As(err, &d) && !errors.Is(err, ErrProtocol) {
		return err
	}
	before := p.ended
	if p.ended = err.Error(); p.ended != before {
		return err
	}
	if strings.Contains(err.Error(), "No module named") {
		return fmt.Errorf("%w: %w; it ran on %s: activate the environment that has it, or name its Python in %s", errStillborn, err, p.args[0], PythonEnv)
	}
	return fmt.Errorf("%w: %w", errStillborn, err)
}

// greeted compares what a process says of itself with what the first one said.
func (p *Pool) greeted(hello *Reply) error {
	switch {
	case hello.Error != "":
		return errors.New(hello.Error)
	case hello.Name != Plain(hello.Name) || hello.Data != Plain(hello.Data):
		return fmt.Errorf("its name %.40q, or its data %.40q, is too long or no plain text", hello.Name, hello.Data)
	case hello.Protocol != Protocol:
		return fmt.Errorf("it speaks protocol %d; want %d", hello.Protocol, Protocol)
	case hello.Kind != KindReward && hello.Kind != KindEnv:
		return fmt.Errorf("it is a %.40q; want %q or %q", hello.Kind, KindReward, KindEnv)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hello == nil {
		p.hello = hello
		p.logger.Info("plugin started", "kind", hello.Kind, "name", hello.Name, "data", hello.Data, "processes", p.command.Processes)
		return nil
	}
	if p.hello.Data != hello.Data || p.hello.Name != hello.Name || p.hello.Kind != hello.Kind || p.hello.Spec != hello.Spec {
		return fmt.Errorf("it changed while the job ran: %s with data %.12s, before %s with data %.12s", hello.Name, hello.Data, p.hello.Name, p.hello.Data)
	}
	return nil
}

// rest ends processes that were last used before a time.
func (p *Pool) rest(before time.Time) {
	for range p.command.Processes {
		select {
		case s := <-p.free:
			if s.p != nil && s.used.Before(before) {
				s.p.stop(patience)
				s.p = nil
			}
			p.free <- s
		default:
			return
		}
	}
}

// close ends all processes once their calls have ended.
func (p *Pool) close() {
	for range p.command.Processes {
		s := <-p.free
		if s.p != nil {
			s.p.stop(patience)
			s.p = nil
		}
	}
}
