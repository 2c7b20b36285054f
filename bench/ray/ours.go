package main

import (
	"context"
	"path/filepath"

	"github.com/driftmesh/driftmesh/bench/parts"
)

// transport measures our side of transport and admission; with an archive on one
// disk, if archived.
func (c *comparison) transport(ctx context.Context, archived bool) (*parts.Taking, error) {
	t := parts.Transport{Samplers: parts.Samplers, For: c.seconds}
	if archived {
		t.Archive, t.Job = c.folder("archived"), c.job
	} else {
		t.Profile = c.profile
	}
	return t.Measure(ctx)
}

// ages measures our side of publication, with three durable voters.
func (c *comparison) ages(ctx context.Context) (*parts.Ages, error) {
	spec, err := c.spec("ages", "train.batch=1", "mesh.rollout=1", "mesh.window_ms=5")
	if err != nil {
		return nil, err
	}
	return parts.Publication{
		Binary: c.binary, Dir: c.folder("ages"), Cache: filepath.Join(c.dir, "cache"), Spec: spec,
		Servers: 3, Followers: parts.Samplers, Params: c.params, For: c.seconds, Profile: c.profile,
	}.Measure(ctx)
}
