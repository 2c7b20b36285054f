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
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/kernels"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/strictyaml"
	"github.com/driftmesh/driftmesh/paramserver/replica"
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
	return execute(ctx, args, stdout, stderr)
}

// execute is run under a context that says when to end.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if _, err := kernels.FromEnv(); err != nil {
		fmt.Fprintf(stderr, "driftmesh: %v\n", err)
		return exitBadInput
	}
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := checkVerb(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	code := exitCode(err)
	if code == exitInterrupted {
		err = besidesInterrupt(err)
	}
	if err != nil {
		fmt.Fprintf(stderr, "driftmesh: %v\n", err)
	}
	return code
}

// errInterrupted says that a run was checkpointed because it was told to end.
var errInterrupted = errors.New("interrupted")

// userFaults are the sentinels of what only the user can mend.
var userFaults = []error{
	fs.ErrNotExist, job.ErrTooLarge,
	runs.ErrForeign, runs.ErrCorrupt, runs.ErrNoRun, runs.ErrLocked,
	cluster.ErrInvalid, cluster.ErrNotFound, cluster.ErrConflict,
	cluster.ErrForeignCluster, cluster.ErrNotLoopback, cluster.ErrInitialised, cluster.ErrLocked,
	cluster.ErrDamaged, replica.ErrDamaged,
}

func exitCode(err error) int {
	var (
		field *fielderr.Error
		line  *strictyaml.Fault
		fault userFault
	)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &field), errors.As(err, &line), errors.As(err, &fault),
		slices.ContainsFunc(userFaults, func(target error) bool { return errors.Is(err, target) }):
		return exitBadInput
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "driftmesh",
		Short: "Train GFlowNets, and any model with log-probabilities, on stale data",
		Long: `Driftmesh trains GFlowNets, and any model with log-probabilities, on stale,
off-policy data; the models it has are native policies, from tables to
transformers and diffusion samplers. Samplers find each other by gossip and roll
out trajectories with whatever parameters they hold; a Raft-replicated parameter
server applies f-Trajectory-Balance updates.

  driftmesh train examples/hypergrid-2d.yaml        one process
  driftmesh up examples/hypergrid-4d.yaml           a local mesh of processes
  driftmesh losses list                             the family of losses`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(flagFault)
	for _, group := range []struct {
		title string
		verbs []*cobra.Command
	}{
		{"Train", []*cobra.Command{newTrainCmd(), newUpCmd()}},
		{"Look at a run", []*cobra.Command{newEvalCmd(), newSampleCmd(), newBestCmd(), newExportCmd()}},
		{"Run a cluster", []*cobra.Command{newServerCmd(), newLearnerCmd(), newWorkerCmd(), newSubmitCmd(), newStatusCmd(), newEventsCmd(), newBackupCmd(), newRestoreCmd(), newMembersCmd(), newStopCmd(), newPauseCmd(), newResumeCmd(), newShareCmd()}},
		{"Measure", []*cobra.Command{newExperimentCmd(), newBenchCmd()}},
		{"Look things up", []*cobra.Command{newEnvsCmd(), newLossesCmd(), newObjectivesCmd(), newSchemaCmd(), newVersionCmd()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title + ":"})
		for _, verb := range group.verbs {
			verb.GroupID = group.title
			root.AddCommand(verb)
		}
	}
	root.SetHelpCommandGroupID("Look things up")
	root.SetCompletionCommandGroupID("Look things up")
	argumentFaults(root)
	return root
}

// newLogger writes structured logs, as text or as JSON.
func newLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
