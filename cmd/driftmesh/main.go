// Command driftmesh trains GFlowNets, and any model with log-probabilities, on
// stale data. Each verb has a file of its own; main wires them, turns errors
// into exit codes, and hands every verb a context that Ctrl-C ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/losses"
)

// version is set when the binary is built.
var version = "dev"

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitBadInput    = 2   // the user's input is at fault: nothing was changed
	exitInterrupted = 130 // Ctrl-C: checkpointed, and ready to resume
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line. The first interrupt ends the context; a
// second one ends the process.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	code := exitCode(err)
	if err != nil && code != exitInterrupted {
		fmt.Fprintf(stderr, "driftmesh: %v\n", err)
	}
	return code
}

// errUsage marks faults of the command line itself.
var errUsage = errors.New("usage")

// errInterrupted says that a run was checkpointed because it was told to end.
var errInterrupted = errors.New("interrupted")

func exitCode(err error) int {
	var field *fielderr.Error
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &field), errors.Is(err, errUsage), errors.Is(err, fs.ErrNotExist),
		errors.Is(err, job.ErrTooLarge), errors.Is(err, runs.ErrForeign), errors.Is(err, runs.ErrCorrupt),
		errors.Is(err, runs.ErrNoRun), errors.Is(err, cluster.ErrInvalid), errors.Is(err, cluster.ErrNotFound):
		return exitBadInput
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "driftmesh",
		Short: "Train GFlowNets, and any model with log-probabilities, on stale data",
		Long: `Driftmesh trains GFlowNets, and any model with log-probabilities, on stale,
off-policy data. Samplers find each other by gossip and roll out trajectories
with whatever parameters they hold; a Raft-replicated parameter server applies
f-Trajectory-Balance updates.

  driftmesh train examples/hypergrid-2d.yaml        one process
  driftmesh up examples/hypergrid-4d.yaml           a local mesh of processes
  driftmesh losses list                             the family of losses`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.AddCommand(
		newTrainCmd(), newUpCmd(),
		newServerCmd(), newWorkerCmd(), newSubmitCmd(), newStatusCmd(), newStopCmd(),
		newEvalCmd(), newSampleCmd(),
		newEnvsCmd(), newLossesCmd(), newSchemaCmd(), newVersionCmd(),
	)
	for _, c := range root.Commands() {
		usageErrors(c)
	}
	return root
}

// usageErrors marks the argument checks of a command and its children.
func usageErrors(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return fmt.Errorf("%w: %w (see %s --help)", errUsage, err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, child := range c.Commands() {
		usageErrors(child)
	}
}

// newLogger writes structured logs as text.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

var _ = losses.Convention
