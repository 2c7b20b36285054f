package parts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// Main runs the command that args name and returns the exit code of the process.
// main is the command that a user gives: what it starts, all others but those of
// ownInput, ends with it. Ctrl-C ends main with 130, bad use with 2.
func Main(args []string, commands map[string]func(context.Context, []string) error, name, main string, ownInput ...string) int {
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintf(os.Stderr, "usage: %s %s [flags]\n", name, main)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if args[0] != main && !slices.Contains(ownInput, args[0]) {
		ctx = OnLeash(ctx)
	}
	err := commands[args[0]](ctx, args[1:])
	switch {
	case err == nil:
		return 0
	case args[0] != main && ctx.Err() != nil:
		return 0 // told to end
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "interrupted")
		return 130
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}
