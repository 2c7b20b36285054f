// Package plugin runs rewards and environments that are other programs, in any
// language: a pool of processes that answer batches of requests in msgpack over
// their standard input and output.
//
// Processes belong to whoever called Permit: main, or a test. Environments only
// borrow them. They start with the first request and end after a minute without
// one, so an environment, which has no end of its own, need not give them back.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Command is a plugin as a job describes it.
type Command struct {
	Args      []string       // program and arguments
	Params    map[string]any // handed over at the start
	Processes int            // most at once in one driftmesh process; 0: 1
	Timeout   time.Duration  // of one request; 0: 10 s
	Batch     int            // items of a request; 0: 512
	Retries   int            // of a request whose process failed; 0: 3, below 0: none
}

const (
	defaultTimeout = 10 * time.Second
	defaultBatch   = 512
	defaultRetries = 3
	// startTimeout is the least that a process may take until it answers hello:
	// imports of large libraries are slow.
	startTimeout = time.Minute
	// idleAfter is how long a process may have nothing to do.
	idleAfter = time.Minute
)

func (c *Command) fill() {
	if c.Processes <= 0 {
		c.Processes = 1
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Batch <= 0 {
		c.Batch = defaultBatch
	}
	switch {
	case c.Retries == 0:
		c.Retries = defaultRetries
	case c.Retries < 0:
		c.Retries = 0
	}
}

// String is the command as people read it.
func (c *Command) String() string { return strings.Join(c.Args, " ") }

// Host owns the processes that it permits.
type Host struct {
	dirs   []string
	logger *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	loops  sync.WaitGroup

	mu    sync.Mutex
	pools map[string]*Pool
}

// hosts are those of this process, in the order of their opening. There is one,
// but for tests that run several commands in one process.
var (
	hostsMu sync.Mutex
	hosts   []*Host
)

// Permit lets jobs run the programs of the folders in this process, until the
// Host is closed. Without it every job with a command is refused.
func Permit(dirs []string, logger *slog.Logger) (*Host, error) {
	for i, dir := range dirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("folder of plugins: %w", err)
		}
		if info, err := os.Stat(abs); err != nil || !info.IsDir() {
			return nil, fielderr.New("--allow-plugins", dir, "a folder with the programs that jobs may run")
		}
		dirs = slices.Clone(dirs)
		dirs[i] = abs
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &Host{dirs: dirs, logger: logger, ctx: ctx, cancel: cancel, pools: map[string]*Pool{}}
	h.loops.Go(h.rest)
	hostsMu.Lock()
	defer hostsMu.Unlock()
	hosts = append(hosts, h)
	return h, nil
}

// Within ends all calls a while after ctx, those that no context of their own ends
// as well: a process that never greets would keep a command that was told to end.
func (h *Host) Within(ctx context.Context, grace time.Duration) {
	h.loops.Go(func() {
		select {
		case <-ctx.Done():
		case <-h.ctx.Done():
			return
		}
		left := time.NewTimer(grace)
		defer left.Stop()
		select {
		case <-left.C:
			h.cancel()
		case <-h.ctx.Done():
		}
	})
}

// Close ends every process and waits for it. Calls under way fail.
func (h *Host) Close() error {
	hostsMu.Lock()
	hosts = slices.DeleteFunc(hosts, func(o *Host) bool { return o == h })
	hostsMu.Unlock()
	h.cancel()
	h.loops.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.pools {
		p.close()
	}
	return nil
}

// rest ends processes that have nothing to do.
func (h *Host) rest() {
	tick := time.NewTicker(idleAfter / 4)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case now := <-tick.C:
			h.mu.Lock()
			for _, p := range h.pools {
				p.rest(now.Add(-idleAfter))
			}
			h.mu.Unlock()
		}
	}
}

// Open returns the pool of a command, one in the process for equal commands. It
// starts nothing. The error is a *fielderr.Error of "command".
func Open(c Command) (*Pool, error) {
	c.fill()
	hostsMu.Lock()
	defer hostsMu.Unlock()
	if len(hosts) == 0 {
		return nil, fielderr.New("command", c.String(), "no command: this process runs no programs of jobs without --allow-plugins DIR")
	}
	var faults []error
	for _, h := range slices.Backward(hosts) {
		p, err := h.open(c)
		if err == nil {
			return p, nil
		}
		faults = append(faults, err)
	}
	var field *fielderr.Error
	if err := errors.Join(faults...); errors.As(err, &field) {
		return nil, field
	} else if errors.Is(err, ErrForbidden) {
		return nil, fielderr.New("command", c.String(), fmt.Sprintf("a program, or python3 and a script, in a folder of --allow-plugins (%v)", err))
	} else {
		return nil, err
	}
}

func (h *Host) open(c Command) (*Pool, error) {
	var faults []error
	for _, dir := range h.dirs {
		args, err := resolve(dir, c.Args)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		key := fmt.Sprintf("%q %#v %d %s %d %d", args, c.Params, c.Processes, c.Timeout, c.Batch, c.Retries) // maps print sorted
		h.mu.Lock()
		defer h.mu.Unlock()
		p := h.pools[key]
		if p == nil {
			p = newPool(h.ctx, c, args, dir, h.logger)
			h.pools[key] = p
		}
		return p, nil
	}
	return nil, errors.Join(faults...)
}
