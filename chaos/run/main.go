// Command run breaks meshes of real processes on purpose and says whether they
// kept their promises: `make torture`, `make failover`, `make swarm` and
// `make netns` call it. Its exit code is 0 when every promise was kept, 1 when
// one was broken, and 2 when a run proves nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/driftmesh/driftmesh/chaos"
)

// Exit codes.
const (
	exitKept    = 0
	exitBroken  = 1
	exitUnknown = 2
)

// errUnknown: the run proves nothing.
var errUnknown = errors.New("proves nothing")

var commands = map[string]func(context.Context, *options, []string) error{
	"failover": runFailover,
	"netns":    runNetns,
	"swarm":    runSwarm,
	"torture":  runTorture,
}

// options are what every command has.
type options struct {
	flags  *flag.FlagSet
	binary string
	dir    string
	job    string
	seed   uint64
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "usage: run (torture | failover | swarm | netns) [flags]")
		return exitUnknown
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o := &options{flags: flag.NewFlagSet(args[0], flag.ContinueOnError)}
	o.flags.StringVar(&o.binary, "binary", "bin/driftmesh", "the driftmesh `binary`")
	o.flags.StringVar(&o.dir, "dir", filepath.Join("runs", args[0]), "`folder` for what the run leaves behind; it is emptied if an earlier run made it")
	o.flags.StringVar(&o.job, "job", jobOf(args[0]), "job `file`")
	o.flags.Uint64Var(&o.seed, "seed", 1, "seed of every choice")
	switch err := commands[args[0]](ctx, o, args[1:]); {
	case err == nil:
		return exitKept
	case errors.Is(err, errUnknown), errors.Is(err, context.Canceled), errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(os.Stderr, err)
		return exitUnknown
	default:
		fmt.Fprintln(os.Stderr, err)
		return exitBroken
	}
}

// jobOf is the job that a command takes by default. Failovers are measured on one
// whose rollouts take a while: a toy's workers would fill their outboxes at once.
func jobOf(command string) string {
	if command == "failover" {
		return "examples/hypergrid-4d.yaml"
	}
	return "examples/hypergrid-2d.yaml"
}

// parse reads the flags and empties the folder.
func (o *options) parse(args []string) error {
	if err := o.flags.Parse(args); err != nil {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return err
	}
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("%w: %w; make build makes it", errUnknown, err)
	}
	o.binary = binary
	// Only a folder that an earlier run has made is emptied.
	marker := filepath.Join(o.dir, ".chaos")
	if entries, err := os.ReadDir(o.dir); err == nil && len(entries) > 0 {
		if _, err := os.Stat(marker); err != nil {
			return fmt.Errorf("%w: --dir %s holds something else; want a new folder", errUnknown, o.dir)
		}
	}
	if err := errors.Join(chaos.Unmount(o.dir), os.RemoveAll(o.dir), os.MkdirAll(o.dir, 0o755)); err != nil {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return os.WriteFile(marker, nil, 0o644)
}
