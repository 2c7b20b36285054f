package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/optim"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/study"
)

// experimentComputations are the kinds of parts of a study beside training.
func experimentComputations() map[string]experiment.Computation {
	return study.Computations(trainOutcome)
}

// diverged are the errors of numbers that stopped being finite.
var diverged = []error{
	paramserver.ErrNonFinite, paramserver.ErrNoBatch, policy.ErrNonFinite, losses.ErrNonFinite, optim.ErrNonFinite,
}

// hasDiverged says whether training ended because its numbers are not finite, which
// is a result, and not for a fault.
func hasDiverged(err error) bool {
	return slices.ContainsFunc(diverged, func(d error) bool { return errors.Is(err, d) })
}

// trainTask trains one cell of a study on one core, in a run folder of its own.
// It gives the bits that `train` gives. An interrupted one goes on from its
// checkpoint where that gives the same bits as well, and begins anew otherwise:
// a checkpoint holds neither the past parameters that a lag samples with nor a
// large replay buffer.
func trainTask(ctx context.Context, dir string, spec *job.Spec, keep bool, progress func(int64)) (err error) {
	s, u, err := openTask(ctx, dir, spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.run.Close()) }()
	u.Within(ctx)
	if err := u.OpenData(); err != nil {
		return userFault{err}
	}
	r, err := newLocalRun(ctx, spec, u)
	if err != nil {
		return err
	}
	r.seconds, r.evalSeconds = s.seconds, s.evalSeconds
	r.onRow = func(row runs.Row, t runs.Timing) error {
		return errors.Join(s.run.Append(row), s.run.AppendTiming(t))
	}
	r.onUpdate = func(version int64, _ uint64) { progress(version) }
	if keep || spec.Train.Lag == 0 {
		r.save = func(c *fsm.Commit) error {
			params, err := wire.DecodeFloats(c.Params)
			if err != nil {
				return err
			}
			return s.checkpoint(u, params, c.Private, int64(c.Version), u.Trajectories(), c.Generation)
		}
	}
	if u.Version() < uint64(spec.Train.Updates) {
		if err := r.train(ctx); err != nil {
			if hasDiverged(err) {
				return fmt.Errorf("%w at update %d: %w", experiment.ErrDiverged, u.Version(), err)
			}
			return err
		}
	}
	if err := s.run.Sync(); err != nil {
		return err
	}
	if keep {
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, runs.CheckpointDir))
}

// openTask opens the folder of a task, where an earlier process left it or new,
// with an Updater in the state that it goes on from.
func openTask(ctx context.Context, dir string, spec *job.Spec) (*session, *paramserver.Updater, error) {
	if runs.Exists(dir) && spec.Train.Lag == 0 {
		s, u, err := resumeTask(ctx, dir, spec)
		if s != nil || err != nil {
			return s, u, err
		}
	}
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return nil, nil, err
	}
	programs, err := programsOf(ctx, u.Env)
	if err != nil {
		return nil, nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, nil, err
	}
	config, err := spec.YAML()
	if err != nil {
		return nil, nil, err
	}
	here := runs.Session{Started: time.Now(), Command: os.Args, Machine: runs.ThisMachine()}
	run, err := runs.Create(dir, runs.Info{Name: spec.Name, Seed: spec.Seed, Version: version, Sessions: []runs.Session{here}}, config)
	if err != nil {
		return nil, nil, err
	}
	return &session{spec: spec, run: run, out: io.Discard, programs: programs}, u, nil
}

// resumeTask returns nil where there is no checkpoint, or where it is not all
// that the same bits need.
func resumeTask(ctx context.Context, dir string, spec *job.Spec) (*session, *paramserver.Updater, error) {
	c, err := runs.LoadCheckpoint(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return nil, nil, err
	}
	s := &session{spec: spec, out: io.Discard, resumed: c}
	if s.programs, err = programsOf(ctx, u.Env); err != nil {
		return nil, nil, err
	}
	if s.samePrograms() != nil {
		return nil, nil, nil
	}
	if err := restore(u, c); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	if got, err := u.Refill(ctx, nil); err != nil || got.Needed {
		return nil, nil, err
	}
	s.run, err = runs.Open(dir, runs.Session{Started: time.Now(), Command: os.Args, From: c.Version, Machine: runs.ThisMachine()})
	if err != nil {
		return nil, nil, err
	}
	err = s.run.TruncateAfter(c.Version)
	timings, readErr := runs.ReadTimings(dir)
	if err := errors.Join(err, readErr); err != nil {
		return nil, nil, errors.Join(err, s.run.Close())
	}
	if n := len(timings); n > 0 {
		s.seconds, s.evalSeconds = float64(timings[n-1].Seconds), float64(timings[n-1].EvalSeconds)
	}
	return s, u, nil
}
