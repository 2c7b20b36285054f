package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/paramserver"
)

// studyMesh runs the cells of a study as jobs of a cluster.
type studyMesh struct {
	client  clientFlags
	cluster string
}

// maxMeshStudy is the longest name of a study whose runs have names of jobs: a dash
// and the 16 digits of a run come after it, and 64 characters are the most.
const maxMeshStudy = 64 - 1 - 16

// checkMeshJob is checkJob for a cell that a mesh runs.
func checkMeshJob(spec *job.Spec) error {
	if spec.Train.Lag > 0 {
		return fielderr.New("train.lag", spec.Train.Lag, "0 on a mesh, whose lag is what it is")
	}
	_, _, err := paramserver.Check(spec)
	return err
}

// join asks which cluster answers.
func (m *studyMesh) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	leader, known, err := m.client.connect(ctx)
	if err != nil {
		return err
	}
	m.cluster = known.ClusterID
	return leader.Close()
}

// train submits one cell and follows it to its end. Interrupted, it pauses the
// job; the next command lets it go on.
func (m *studyMesh) train(ctx context.Context, dir string, spec *job.Spec, keep bool) (err error) {
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return err
	}
	s := &session{spec: spec, out: io.Discard}
	here := runs.Session{Started: time.Now(), Command: os.Args, Machine: runs.ThisMachine()}
	if runs.Exists(dir) {
		s.run, err = runs.Open(dir, here)
	} else {
		var config []byte
		if config, err = spec.YAML(); err == nil {
			s.run, err = runs.Create(dir, runs.Info{Name: spec.Name, Seed: spec.Seed, Version: version, Sessions: []runs.Session{here}}, config)
		}
	}
	if err != nil {
		return err
	}
	s.begin(&jobFlags{plain: true}, 0, 0)
	defer func() { err = errors.Join(err, s.close()) }()
	f := &follower{s: s, u: u, cluster: m.cluster}
	f.leader = cluster.NewLeader(m.cluster, func() []string { return m.client.servers }, cluster.DialOptions{Security: m.client.security()})
	defer func() { err = errors.Join(err, f.leader.Close()) }()
	err = f.follow(ctx)
	switch {
	case ctx.Err() != nil && f.submitted:
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
		defer cancel()
		return errors.Join(ctx.Err(), f.pause(last))
	case err != nil:
		for _, d := range diverged { // the learner's error comes as text
			if strings.Contains(err.Error(), d.Error()) {
				return fmt.Errorf("%w: %w", experiment.ErrDiverged, err)
			}
		}
		return err
	case keep:
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, runs.CheckpointDir))
}
