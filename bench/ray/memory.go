package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
)

// memory is what a sampler takes, in MiB of proportional set size.
type memory struct {
	Process float64 `json:"pss_mib_per_process"`         // with one slot
	Slot    float64 `json:"pss_mib_per_additional_slot"` // in the cheapest place for one
}

const (
	mib       = 1 << 20
	manySlots = 17
	settle    = 3 * time.Second // of sampling, before memory is looked at
)

// memory compares worker processes of one and of seventeen slots while they
// sample the main job.
func (c *comparison) memory(ctx context.Context) (*memory, error) {
	one, err := c.workerPSS(ctx, 1)
	if err != nil {
		return nil, err
	}
	many, err := c.workerPSS(ctx, manySlots)
	if err != nil {
		return nil, err
	}
	return &memory{Process: one, Slot: (many - one) / (manySlots - 1)}, nil
}

func (c *comparison) workerPSS(ctx context.Context, slots int) (size float64, err error) {
	spec, err := c.spec("memory")
	if err != nil {
		return 0, err
	}
	rig, err := chaos.NewRig(chaos.RigConfig{Binary: c.binary, Dir: c.folder(fmt.Sprintf("memory-%d", slots)), Servers: 1, Workers: 1, Slots: slots, Seed: 1, OneMachine: true})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	if _, _, err := parts.Submit(ctx, rig, spec); err != nil {
		return 0, err
	}
	if err := sampling(ctx, rig, spec.Name, slots); err != nil {
		return 0, err
	}
	if err := clock.Rest(ctx, settle); err != nil {
		return 0, err
	}
	bytes, err := chaos.PSS(rig.Nodes(cluster.RoleWorker)[0].PID())
	return float64(bytes) / mib, err
}

// sampling waits until so many slots have a session.
func sampling(ctx context.Context, rig *chaos.Rig, jobID string, slots int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		lead, err := rig.Lead(ctx)
		if err != nil {
			return err
		}
		if reply, err := rig.Status(ctx, lead, jobID); err == nil && len(reply.Jobs) == 1 && reply.Jobs[0].Sessions >= slots {
			return nil
		}
		if err := clock.Rest(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("not all of %d slots sample: %w", slots, err)
		}
	}
}
