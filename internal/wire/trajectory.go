// Package wire holds what crosses process borders: trajectories, snapshots and
// the messages of the mesh, with the size caps that a decoder checks before it
// allocates. sampler and paramserver meet here and nowhere else.
package wire

// Position orders everything that a job publishes: it never goes back,
// lexicographically in (Generation, Version).
type Position struct {
	Generation uint64 `msgpack:"g" json:"generation"` // incremented by every restore
	Version    uint64 `msgpack:"v" json:"version"`    // optimiser steps since the job began
}

// Before says whether p is older than q.
func (p Position) Before(q Position) bool {
	return p.Generation < q.Generation || p.Generation == q.Generation && p.Version < q.Version
}

// Trajectory is one finished rollout. The states are not stored: actions
// replayed from s0 give them back.
type Trajectory struct {
	Session string // worker session that sampled it; "" in local mode
	Seq     uint64 // position in the session's stream, from 1
	Epoch   uint64 // epoch of the parameters it was sampled with; 0 for committed ones
	Version uint64 // version of those parameters
	// Actions are the forward actions from s0, the stop action included: one word
	// each, or where actions are points the bits of a float32 for every coordinate.
	Actions []int32
	// LogReward is log R(x), finite.
	LogReward float64
	// LogBehaviour is the log-probability of the actions under the distribution
	// really sampled from (exploration included); NaN where there is none.
	LogBehaviour float64
	// Weight is how much the trajectory counts in the loss beside others; 0
	// counts as 1. Admission sets it. It is not sent.
	Weight float64
}
