package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/journal"
)

// training is learning as a whole: sampling, transport, updates and publication.
type training struct {
	Rate float64 `json:"trajectories_trained_per_second"`
	// Age of parameters when a sampler that is busy first uses them, in ms.
	P50       float64 `json:"age_ms_p50"`
	P95       float64 `json:"age_ms_p95"`
	Published float64 `json:"published_per_second"`
}

// training trains the main job with eight worker processes and three durable
// voters, in batches of 64.
func (c *comparison) training(ctx context.Context) (out *training, err error) {
	spec, err := c.spec("training")
	if err != nil {
		return nil, err
	}
	rig, err := chaos.NewRig(chaos.RigConfig{Binary: c.binary, Dir: c.folder("training"), Servers: 3, Workers: parts.Samplers, Slots: 1, Seed: 1, OneMachine: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	if _, _, err := parts.Submit(ctx, rig, spec); err != nil {
		return nil, err
	}
	if err := sampling(ctx, rig, spec.Name, parts.Samplers); err != nil {
		return nil, err
	}
	if err := clock.Rest(ctx, settle); err != nil {
		return nil, err
	}
	before, from, err := trained(ctx, rig, spec.Name)
	if err != nil {
		return nil, err
	}
	if err := clock.Rest(ctx, 2*c.seconds); err != nil {
		return nil, err
	}
	after, to, err := trained(ctx, rig, spec.Name)
	if err != nil {
		return nil, err
	}
	seconds := to.Sub(from).Seconds()
	out = &training{Rate: float64(after-before) / seconds}
	used, versions, err := adoptions(rig, from.UnixNano(), to.UnixNano())
	out.P50, out.P95, out.Published = chaos.Quantile(used, 0.5), chaos.Quantile(used, 0.95), float64(versions)/seconds
	return out, err
}

func trained(ctx context.Context, rig *chaos.Rig, jobID string) (uint64, time.Time, error) {
	reply, err := rig.State(ctx, jobID)
	if err != nil {
		return 0, time.Time{}, err
	}
	return reply.Info.Trajectories, time.Now(), nil
}

// adoptions reads from the journals how old versions were, in ms from their
// proposal, when a worker first sampled with them, and how many were proposed.
func adoptions(rig *chaos.Rig, from, to int64) (old []float64, versions int, err error) {
	proposed := map[uint64]int64{}
	var adopted []journal.Entry
	for _, n := range rig.Nodes(cluster.RoleServer, cluster.RoleWorker) {
		f, err := os.Open(n.Journal)
		if err != nil {
			return nil, 0, err
		}
		entries, _, err := journal.Read(f)
		f.Close()
		if err != nil {
			return nil, 0, err
		}
		for _, e := range entries {
			switch {
			case e.Time < from || e.Time > to:
			case e.Kind == journal.Proposed:
				proposed[e.Version] = e.Time
			case e.Kind == journal.Adopted:
				adopted = append(adopted, e)
			}
		}
	}
	for _, e := range adopted {
		if at, ok := proposed[e.Version]; ok {
			old = append(old, float64(e.Time-at)/1e6)
		}
	}
	return old, len(proposed), nil
}
