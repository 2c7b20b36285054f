package main

import (
	"context"
	"fmt"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/paramserver"
)

// ingest is how fast trajectories get into replay.
type ingest struct {
	Streams  int     `json:"streams"`
	Replay   bool    `json:"replay"` // actions were replayed and objects put into a buffer
	Rate     float64 `json:"trajectories_per_second"`
	Intake   float64 `json:"intake_cpu_ns_per_trajectory"`
	Samplers float64 `json:"samplers_cpu_ns_per_trajectory"`
}

// ingest measures transport and admission for several numbers of streams, and once
// with what a learner with a replay buffer does besides.
func (b *bench) ingest(ctx context.Context) (out []ingest, err error) {
	cases := []parts.Transport{{Samplers: 1}, {Samplers: 8}, {Samplers: 32}, {Samplers: 8, Job: b.job}}
	if b.short {
		cases = cases[1:2:2]
		cases = append(cases, parts.Transport{Samplers: 8, Job: b.job})
	}
	for i, t := range cases {
		t.For = b.long
		if b.profile != "" {
			t.Profile = fmt.Sprintf("%s.ingest%d", b.profile, i)
		}
		got, err := t.Measure(ctx)
		if err != nil {
			return nil, fmt.Errorf("%d streams: %w", t.Samplers, err)
		}
		const each = 1e3 / parts.PerCall // µs per batch to ns per trajectory
		out = append(out, ingest{Streams: t.Samplers, Replay: t.Job != "", Rate: got.Rate, Intake: each * got.CPU, Samplers: each * got.SamplersCPU})
	}
	return out, nil
}

// publication is how parameters get to workers that are machines of their own.
type publication struct {
	Workers int `json:"workers"`
	*parts.Ages
}

// publication publishes to several numbers of workers, from three durable voters.
func (b *bench) publication(ctx context.Context) (out []publication, err error) {
	counts := []int{1, 4, 12}
	if b.short {
		counts = []int{6}
	}
	for _, n := range counts {
		name := fmt.Sprintf("publication-%d", n)
		spec, err := loadJob(b.job, "name="+name, "train.batch=1", "mesh.rollout=1", "mesh.window_ms=5")
		if err != nil {
			return nil, err
		}
		u, err := paramserver.NewUpdater(spec)
		if err != nil {
			return nil, err
		}
		got, err := parts.Publication{
			Binary: b.binary, Dir: b.folder(name), Cache: b.folder(name) + "-cache-%d", Spec: spec,
			Servers: 3, Followers: n, Params: len(u.Params()), For: b.long,
		}.Measure(ctx)
		if err != nil {
			return nil, fmt.Errorf("%d workers: %w", n, err)
		}
		out = append(out, publication{n, got})
	}
	return out, nil
}
