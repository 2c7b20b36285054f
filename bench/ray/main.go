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
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"
)

var commands = map[string]func(context.Context, []string) error{
	"compare": runCompare,
	"intake":  runIntake,
	"deliver": runDeliver,
	"follow":  runFollow,
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "usage: ray compare [flags]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if args[0] != "compare" {
		ctx = onLeash(ctx)
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

// onLeash ends a child process when its parent ends, however that happens: the
// other end of its standard input closes.
func onLeash(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with the process
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ownCPU is what this process has used of the processor.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// profiled writes a CPU profile until stop is called; "" writes none.
func profiled(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}
