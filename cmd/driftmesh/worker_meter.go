package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/fanout"
	"github.com/driftmesh/driftmesh/internal/telemetry"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

// workerMeter is what a worker's /metrics and /readyz tell.
type workerMeter struct {
	mesh  *cluster.Mesh
	sent  *fanout.Egress
	slots []*sampler.Worker // complete before anybody reads

	mu     sync.Mutex
	params map[string]adopted // by job; of the job that is sampled for, or was last
}

// adopted is the newest position of a job that a slot samples with.
type adopted struct {
	at    wire.Position
	since time.Time
}

func newWorkerMeter(mesh *cluster.Mesh, sent *fanout.Egress) *workerMeter {
	return &workerMeter{mesh: mesh, sent: sent, params: map[string]adopted{}}
}

// adopted is every slot's Observe.
func (m *workerMeter) adopted(job string, p wire.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, known := m.params[job]; known && !old.at.Before(p) {
		return // another slot has it already
	}
	m.params[job] = adopted{p, time.Now()}
}

// collect is the telemetry.Source of a worker.
func (m *workerMeter) collect(emit telemetry.Emit) {
	var sampled float64
	kept, busy := map[string]int64{}, 0
	var spent wire.Spent
	for _, w := range m.slots {
		spent.Add(w.Spent())
		sampled += float64(w.Sampled.Load())
		if job := w.Job(); job != "" {
			busy++
			kept[job] += w.Kept.Load()
		}
	}
	emit(telemetry.SamplerSampled, sampled)
	for doing, d := range map[string]time.Duration{"sampling": spent.Sampling, "reward": spent.Reward, "credit": spent.Credit, "marks": spent.Marks, "parameters": spent.Parameters} {
		emit(telemetry.SamplerSeconds, d.Seconds(), doing)
	}
	emit(telemetry.SamplerSlots, float64(busy), "assigned")
	emit(telemetry.SamplerSlots, float64(len(m.slots)-busy), "idle")
	for to, sent := range m.sent.Counts() {
		emit(telemetry.EgressBytes, float64(sent.Bytes), to)
	}
	paramserver.CollectMembers(m.mesh, emit)
	m.mu.Lock()
	defer m.mu.Unlock()
	for job, p := range m.params {
		if _, now := kept[job]; !now {
			delete(m.params, job) // another job's turn
		}
		emit(telemetry.ParamsVersion, float64(p.at.Version), job)
		emit(telemetry.ParamsAge, time.Since(p.since).Seconds(), job)
	}
	for job, n := range kept {
		emit(telemetry.OutboxKept, float64(n), job)
	}
}

// ready says which job's parameters are missing; nil if every slot has those of
// its job, or no job.
func (m *workerMeter) ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.slots {
		if job := w.Job(); job != "" {
			if _, has := m.params[job]; !has {
				return fmt.Errorf("slot %d has no parameters of job %s yet", w.Slot, job)
			}
		}
	}
	return nil
}
