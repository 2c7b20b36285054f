// Package parts holds what the benchmarks of a mesh share: the processes of a
// measurement, which are commands of the benchmark's own binary, and what they
// measure. docs/RAY.md describes each.
package parts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"syscall"
	"time"
)

// Commands are the processes of measurements, by the name of the command.
var Commands = map[string]func(context.Context, []string) error{
	"intake":  runIntake,
	"deliver": runDeliver,
	"follow":  runFollow,
}

// OnLeash ends a child process when its parent ends, however that happens: the
// other end of its standard input closes.
func OnLeash(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with the process
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}

// OwnCPU is what this process has used of the processor.
func OwnCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Profiled writes a CPU profile until stop is called; "" writes none.
func Profiled(path string) (stop func(), err error) {
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

// Say writes one line for the parent.
func Say(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }

// Tell writes a line for the user.
func Tell(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
