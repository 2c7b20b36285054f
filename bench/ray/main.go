// Command ray compares Driftmesh with Ray on one machine in one run: `make
// bench-ray` calls it. docs/RAY.md says what is compared and how.
//
// Its other commands are the processes of a measurement, which the first one
// starts: samplers that do not sample, followers that do not train.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"syscall"

	"github.com/driftmesh/driftmesh/bench/parts"
)

var commands = maps.Clone(parts.Commands)

func init() { commands["compare"] = runCompare }

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "usage: ray compare [flags]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if args[0] != "compare" {
		ctx = parts.OnLeash(ctx)
	}
	err := commands[args[0]](ctx, args[1:])
	switch {
	case err == nil:
		return 0
	case args[0] != "compare" && ctx.Err() != nil:
		return 0 // told to end
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "interrupted")
		return 2
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}
