package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// nodeFlags are what servers and workers have in common.
type nodeFlags struct {
	data    string
	gossip  string
	join    []string
	preset  string
	http    string
	logs    string
	leash   bool
	verbose bool
	open    bool     // listen and dial off loopback
	faults  string   // address of fault control, "" for none
	journal string   // file, "" for none
	allow   []string // folders of plugins
}

func (f *nodeFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.data, "data", "", "`folder` of the node's identity, log and snapshots (required)")
	fl.StringVar(&f.gossip, "gossip", "127.0.0.1:0", "`address` to gossip at; without TLS it must be on loopback")
	fl.StringArrayVar(&f.join, "join", nil, "gRPC `address` of any server of the cluster (repeatable)")
	fl.StringVar(&f.preset, "preset", "local", "gossip timings of a `place`: local or lan")
	addOpenNetwork(fl, &f.open)
	addAllowPlugins(fl, &f.allow, noPlugins)
	fl.StringVar(&f.faults, "faults", "", "`address` at which faults of this node's links are controlled (for tests)")
	fl.StringVar(&f.journal, "journal", "", "`file` that what this node saw is appended to (for tests)")
	for _, hidden := range []string{"faults", "journal"} {
		if err := fl.MarkHidden(hidden); err != nil {
			panic(err) // a flag that was not defined just above
		}
	}
	fl.StringVar(&f.http, "http", "", "`address` of /metrics, /healthz and /readyz; off by default")
	fl.StringVar(&f.logs, "log-format", "text", "`form` of log lines: text or json")
	fl.BoolVar(&f.leash, "leash", false, "end when standard input closes (for a parent process)")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "log debug messages")
}

func (f *nodeFlags) logger() *slog.Logger {
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	return newLogger(os.Stderr, level, f.logs)
}

// onLeash returns a context that also ends when standard input closes.
func (f *nodeFlags) onLeash(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if f.leash {
		go func() { // ends with the process: a read of stdin cannot be interrupted
			io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	return ctx, cancel
}

// check finds what is wrong with the flags before anything is written.
func (f *nodeFlags) check(listen map[string]string) error {
	var errs []error
	if f.data == "" {
		errs = append(errs, fielderr.New("--data", nil, "a folder for the node's identity, log and snapshots"))
	} else if info, err := os.Stat(f.data); err == nil && !info.IsDir() {
		errs = append(errs, fielderr.New("--data", f.data, "a folder; this is a file"))
	}
	if _, err := cluster.PresetByName(f.preset); err != nil {
		errs = append(errs, fielderr.New("--preset", f.preset, "local or lan"))
	}
	if f.logs != "" && f.logs != "text" && f.logs != "json" {
		errs = append(errs, fielderr.New("--log-format", f.logs, "text or json"))
	}
	addrs := map[string]string{"--gossip": f.gossip}
	if f.faults != "" {
		addrs["--faults"] = f.faults
	}
	if f.http != "" {
		addrs["--http"] = f.http
	}
	maps.Copy(addrs, listen)
	for _, flag := range slices.Sorted(maps.Keys(addrs)) {
		errs = append(errs, checkAddr(f.security(), flag, addrs[flag]))
	}
	for _, addr := range f.join {
		errs = append(errs, checkAddr(f.security(), "--join", addr))
	}
	return errors.Join(errs...)
}

// checkAddr refuses an address that a node of an insecure mesh must not use.
func checkAddr(security cluster.Security, flag, addr string) error {
	err := security.CheckAddr(addr)
	switch {
	case errors.Is(err, cluster.ErrNotLoopback):
		return fielderr.New(flag, addr, "an address on loopback, such as 127.0.0.1:7400: links are neither encrypted nor authenticated yet")
	case err != nil:
		return fielderr.New(flag, addr, "host:port, such as 127.0.0.1:7400")
	}
	return nil
}

// waitNotice is how often a node says that it waits for a server to answer.
const waitNotice = 10 * time.Second

// introduce asks the servers of --join which cluster they are and where it
// gossips, until one answers.
func (f *nodeFlags) introduce(ctx context.Context, req *wire.JoinRequest, dial cluster.DialOptions) (*wire.JoinReply, error) {
	addrs, logger := f.join, f.logger()
	var last error
	warned := time.Time{}
	for {
		for _, addr := range addrs {
			reply, err := askToJoin(ctx, addr, req, dial)
			if err == nil {
				return reply, nil
			}
			last = err
			if errors.Is(err, cluster.ErrForeignCluster) || errors.Is(err, cluster.ErrNotLoopback) {
				return nil, err
			}
		}
		if time.Since(warned) >= waitNotice {
			logger.Warn("no server answers yet, asking again", "servers", strings.Join(addrs, ", "), "error", last)
			warned = time.Now()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no server answered at %s: %w (last: %v)", strings.Join(addrs, ", "), ctx.Err(), last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func askToJoin(ctx context.Context, addr string, req *wire.JoinRequest, dial cluster.DialOptions) (*wire.JoinReply, error) {
	c, err := cluster.Dial(addr, dial)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return c.Join(ctx, req)
}

// needJoin refuses a node that cannot know its cluster.
func needJoin(join []string) error {
	if len(join) == 0 {
		return fielderr.New("--join", nil, "the gRPC address of a server of the cluster")
	}
	return nil
}
