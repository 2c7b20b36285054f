// Command mesh measures what the mesh itself costs: ingest, publication, commits and
// their share of training. `make bench-mesh` calls it; docs/PERFORMANCE.md says what
// is measured and how.
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

func init() {
	commands["run"] = runBench
	commands["voter"] = runVoter
}

// ownInput are the commands that read their standard input themselves.
var ownInput = map[string]bool{"run": true, "voter": true}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "usage: mesh run [flags]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if !ownInput[args[0]] {
		ctx = parts.OnLeash(ctx)
	}
	err := commands[args[0]](ctx, args[1:])
	switch {
	case err == nil:
		return 0
	case args[0] != "run" && ctx.Err() != nil:
		return 0 // told to end
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "interrupted")
		return 2
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}
