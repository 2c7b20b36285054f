package scaling

import (
	"time"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// Bottleneck names the part of a mesh that bounds its rate.
type Bottleneck string

// What may bound a mesh, from the workers' rewards to the parameters' way back.
const (
	Reward   Bottleneck = "reward"   // evaluating rewards
	Sampling Bottleneck = "sampling" // rolling out, on the workers' processors
	Ingest   Bottleneck = "ingest"   // from the outbox to the learner's queue
	Learner  Bottleneck = "learner"  // gradients and optimiser steps
	Commit   Bottleneck = "commit"   // making commits, and waiting for the log
	FanOut   Bottleneck = "fan-out"  // parameters to the workers
	Unknown  Bottleneck = "unknown"  // nobody told
)

// Load is where the time of a learner and of its workers went, as shares of
// their time, and how much of what was sampled came to nothing.
type Load struct {
	// The learner's.
	Update float64 `json:"update"` // in gradients and steps
	Batch  float64 `json:"batch"`  // waiting for a batch
	Commit float64 `json:"commit"` // making commits, waiting for answers
	// The workers'.
	Sampling   float64 `json:"sampling"`
	Reward     float64 `json:"reward"`
	Credit     float64 `json:"credit"` // waiting until the learner takes more
	Marks      float64 `json:"marks"`  // waiting for marks of what was sent
	Parameters float64 `json:"parameters"`
	// Stale is the share of the trajectories with a disposition that was dropped
	// as too old.
	Stale float64 `json:"stale"`
}

// LoadBetween is the load between two readings of one lease.
func LoadBetween(from, to wire.Effort) Load {
	w := to.Workers.Sub(from.Workers)
	update, batch, commit := to.Update-from.Update, to.Batch-from.Batch, to.Commit-from.Commit
	stale, trained := float64(to.Stale)-float64(from.Stale), float64(to.Trained)-float64(from.Trained)
	return Load{
		Update: share(update, update+batch+commit), Batch: share(batch, update+batch+commit), Commit: share(commit, update+batch+commit),
		Sampling: share(w.Sampling, w.Total()), Reward: share(w.Reward, w.Total()),
		Credit: share(w.Credit, w.Total()), Marks: share(w.Marks, w.Total()), Parameters: share(w.Parameters, w.Total()),
		Stale: ratio(stale, stale+trained),
	}
}

func share(part, whole time.Duration) float64 { return ratio(float64(part), float64(whole)) }

func ratio(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return part / whole
}

// tooStale is the share of dropped trajectories from which on the parameters'
// way back is what costs most: more than a quarter of the sampling is in vain.
const tooStale = 0.25

// Name says what bounds a mesh with this load. It follows a trajectory backward
// from where it is used: a learner that is busy most of the time is the bound
// itself, or its commits are; one that waits is starved, by workers which wait
// themselves (for parameters, for marks, or, although the learner would take
// more, for credit), and otherwise by what those workers do.
func (l Load) Name() Bottleneck {
	workers := l.Sampling + l.Reward + l.Credit + l.Marks + l.Parameters
	switch {
	case l.Update+l.Batch+l.Commit == 0 && workers == 0:
		return Unknown
	case l.Stale > tooStale:
		return FanOut
	case l.Commit >= l.Update && l.Commit >= l.Batch && l.Commit > 0:
		return Commit
	case l.Update >= l.Batch && l.Update > 0:
		return Learner
	case workers == 0:
		return Unknown
	}
	name, most := Reward, l.Reward
	for _, x := range []struct {
		name  Bottleneck
		share float64
	}{{Sampling, l.Sampling}, {Ingest, l.Credit}, {Commit, l.Marks}, {FanOut, l.Parameters}} {
		if x.share > most {
			name, most = x.name, x.share
		}
	}
	return name
}
