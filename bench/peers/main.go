// Command peers compares Driftmesh with torchgfn and gfnx on one machine in one
// run: `make bench-peers` calls it. docs/PEERS.md says what is compared and how.
//
// Its other command is Driftmesh's process of a measurement; those of the peers
// are in py.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var commands = map[string]func(context.Context, []string) error{
	"compare":   runCompare,
	"driftmesh": runOurs,
}

func main() { os.Exit(run(os.Args[1:])) }

// usageError is about flags that cannot be meant; the exit code is 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func run(args []string) int {
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "usage: peers compare [flags]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := commands[args[0]](ctx, args[1:])
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "interrupted; what was measured is kept")
		return 130
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}
