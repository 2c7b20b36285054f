package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/driftmesh/driftmesh/envs"
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

// programsOf is what the plugins of an environment say of themselves, by the field that
// names each.
func programsOf(ctx context.Context, env envs.Env) (map[string]string, error) {
	if p, ok := env.(envs.Programmed); ok {
		return p.Programs(ctx)
	}
	return nil, nil
}

// samePrograms refuses to go on with a plugin that is not the one that the run has been
// trained with: half of it would have learned another reward.
func (s *session) samePrograms() error {
	for _, field := range slices.Sorted(maps.Keys(s.resumed.Programs)) {
		if was, is := s.resumed.Programs[field], s.programs[field]; is != was {
			return userFault{fmt.Errorf("%s: the program, or a file that it depends on, has changed since version %d: its hash is %.12s and was %.12s; --set name=NEW trains another run with it, --fresh starts this one over", field, s.resumed.Version, cmp.Or(is, "none"), was)}
		}
	}
	return nil
}
