package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/driftmesh/driftmesh/internal/plugin"
)

// addAllowPlugins adds the flag by which the user of this machine, and no job,
// says what jobs may run here.
func addAllowPlugins(fl *pflag.FlagSet, dirs *[]string, otherwise string) {
	fl.StringArrayVar(dirs, "allow-plugins", nil, "`DIR` with programs that jobs may run ("+otherwise+"; repeatable)")
}

// noPlugins is what happens without the flag where there is no job file.
const noPlugins = "otherwise none"

// pluginGrace is how long programs of jobs may still answer once the command was told
// to end: the last evaluation of what was trained may need them.
const pluginGrace = 5 * time.Second

// permit lets jobs run the programs of the folders until the function that it
// returns is called, or a while after ctx ended.
func permit(ctx context.Context, dirs []string, logger *slog.Logger) (func() error, error) {
	if len(dirs) == 0 {
		return func() error { return nil }, nil
	}
	h, err := plugin.Permit(dirs, logger)
	if err != nil {
		return nil, err
	}
	h.Within(ctx, pluginGrace)
	return h.Close, nil
}

// besideJob is where the programs of a job file are by default: in its folder.
func besideJob(dirs []string, path string) []string {
	if len(dirs) > 0 {
		return dirs
	}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil // reading the job says more
	}
	return []string{dir}
}

// permitted runs a verb while jobs may run the programs of the folders. What
// plugins say goes to standard error.
func permitted(cmd *cobra.Command, dirs []string, run func() error) (err error) {
	done, err := permit(cmd.Context(), dirs, newLogger(cmd.ErrOrStderr(), slog.LevelWarn, "text"))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := done(); err == nil {
			err = cerr
		}
	}()
	return run()
}
