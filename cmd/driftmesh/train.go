package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

func newTrainCmd() *cobra.Command {
	var f jobFlags
	var lag int
	cmd := &cobra.Command{
		Use:   "train JOB.yaml",
		Short: "Train in one process, on-policy or with an exact lag",
		Long: `Train in one process: sampler and learner in memory, on-policy, or with --lag k
on trajectories of exactly k updates ago. Equal seeds give equal metrics, bit for
bit, at any GOMAXPROCS. Ctrl-C checkpoints; the same command goes on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lag < 0 {
				return fielderr.New("--lag", lag, "an integer of at least 0")
			}
			if cmd.Flags().Changed("lag") {
				f.sets = append(f.sets, fmt.Sprintf("train.lag=%d", lag))
			}
			return permitted(cmd, besideJob(f.allow, args[0]), func() error { return train(cmd, &f, args[0]) })
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&lag, "lag", 0, "sample with the parameters of that many updates ago (train.lag)")
	return cmd
}

func train(cmd *cobra.Command, f *jobFlags, path string) (err error) {
	spec, u, err := f.load(path)
	if err != nil {
		return err
	}
	u.Within(cmd.Context())
	if err := u.OpenData(); err != nil {
		return userFault{err}
	}
	s, err := openSession(cmd, f, spec, u, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, w := range u.Warnings {
		s.note("warning: %s", w)
	}
	if s.resumed != nil && u.Version() >= uint64(spec.Train.Updates) {
		return s.finish(cmd.Context(), u, alreadyFinished(u))
	}
	if os.Getenv("GOGC") == "" {
		// Batches grow as trajectories do, and after that nothing is allocated: what
		// the growth left behind would stay for good.
		debug.SetGCPercent(30)
	}
	r, err := newLocalRun(cmd.Context(), spec, u)
	if err != nil {
		return err
	}
	if u.Inexact != nil && !errors.Is(u.Inexact, envs.ErrNotEnumerable) && cmd.Context().Err() == nil {
		s.note("warning: no exact metrics: %v", u.Inexact)
	}
	r.threads = runtime.GOMAXPROCS(0)
	r.seconds, r.evalSeconds = s.seconds, s.evalSeconds
	if s.resumed != nil {
		s.note("%s: resuming at version %d of %d (%d trajectories)", spec.Name, s.resumed.Version, spec.Train.Updates, s.resumed.Trajectories)
		if err := s.run.TruncateAfter(s.resumed.Version); err != nil {
			return err
		}
		if got, err := u.Refill(cmd.Context(), nil); err != nil {
			return err
		} else if got.Needed {
			s.note("the replay buffer is not part of the checkpoint: it begins with the %d best objects", got.Objects)
		}
	}
	r.onRow = s.row
	r.save = func(c *fsm.Commit) error {
		params, err := wire.DecodeFloats(c.Params)
		if err != nil {
			return err
		}
		return s.checkpoint(u, params, c.Private, int64(c.Version), u.Trajectories(), c.Generation)
	}
	s.begin(f, 0, 0)
	r.onUpdate = s.show.Progress
	err = r.train(cmd.Context())
	switch {
	case err == nil:
		return s.finish(cmd.Context(), u, fmt.Sprintf("finished after %d updates", u.Version()))
	case errors.Is(err, errCutShort):
		ferr := s.finish(cmd.Context(), u, fmt.Sprintf("interrupted while version %d was evaluated; the same command goes on from the checkpoint before", u.Version()))
		return errors.Join(errInterrupted, ferr)
	case errors.Is(err, context.Canceled):
		ferr := s.finish(cmd.Context(), u, fmt.Sprintf("interrupted at version %d; the same command resumes", u.Version()))
		return errors.Join(errInterrupted, ferr)
	}
	return err
}

// alreadyFinished is the outcome of a command that has nothing left to do.
func alreadyFinished(u *paramserver.Updater) string {
	return fmt.Sprintf("was finished already, at version %d; --fresh starts over", u.Version())
}
