package main

import (
	"context"
	"fmt"
	"time"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// benchCluster is the ID of the clusters that are measured.
const benchCluster = "8f2c1f5e-0c1d-4a86-9d55-2f7f0d1b7a10"

const benchJob = "bench"

// ours is a node of the real replicated log: a Commit is encoded, proposed and
// applied as a learner's is on the node that leads.
type ours struct {
	replica         *replica.Replica
	params, private []byte
	version         uint64
	started         bool
	entry           int
}

func openReplica(dir, id string, found, single bool, params int) (*ours, error) {
	r, err := replica.Open(replica.Config{Dir: dir, ID: id, Listen: "127.0.0.1:0", Bootstrap: found, Single: found && single, ClusterID: benchCluster})
	if err != nil {
		return nil, err
	}
	o := &ours{replica: r, params: wire.EncodeFloats(nil, weights(params)), private: wire.EncodeFloats(nil, weights(2*params))}
	data, err := fsm.Encode(o.commit())
	o.entry = len(data)
	return o, err
}

// weights are numbers as a model's, which no compression would shorten.
func weights(n int) []float32 {
	out := make([]float32, n)
	x := uint32(1)
	for i := range out {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		out[i] = float32(x)/(1<<32) - 0.5
	}
	return out
}

func (o *ours) addr() string { return o.replica.Addr() }
func (o *ours) size() int    { return o.entry }

func (o *ours) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return o.replica.Shutdown(ctx)
}

func (o *ours) lead(ctx context.Context, peers []peer) error {
	if err := elected(ctx, o.replica.IsLeader); err != nil {
		return err
	}
	if err := found(ctx, o.replica, benchJob, []byte("{}")); err != nil {
		return err
	}
	for _, p := range peers {
		if err := o.replica.AddVoter(ctx, p.id, p.addr); err != nil {
			return err
		}
	}
	return nil
}

// found gives a new cluster its identity and a job, which is granted to this node.
func found(ctx context.Context, r *replica.Replica, jobID string, spec []byte) error {
	for _, cmd := range []any{
		fsm.Init{ClusterID: benchCluster},
		fsm.Activate{Level: fsm.FeatureLevel},
		fsm.CreateJob{Job: jobID, Spec: spec, Updates: 1 << 40},
		fsm.Grant{Job: jobID, Epoch: 1, Node: r.ID(), Addr: r.Addr()},
	} {
		res, err := r.Apply(ctx, cmd)
		if err != nil {
			return err
		}
		if res.Outcome != fsm.Applied {
			return fmt.Errorf("%T: %s: %s", cmd, res.Outcome, res.Reason)
		}
	}
	return nil
}

// elected waits until a node leads.
func elected(ctx context.Context, leads func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !leads() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (o *ours) commit() *fsm.Commit {
	c := &fsm.Commit{Job: benchJob, Epoch: 1, Base: o.version, Version: o.version + 1, Params: o.params, Private: o.private, Stamp: time.Now().UnixNano()}
	if !o.started {
		c.Base, c.Version = 0, 0
	}
	return c
}

func (o *ours) encode() ([]byte, error) {
	c := o.commit()
	o.version, o.started = c.Version, true
	return fsm.Encode(c)
}

func (o *ours) propose(entry []byte) <-chan error {
	future := o.replica.ApplyEncodedAsync(entry)
	answer := make(chan error, 1)
	go func() { // ends with the answer, which there is at the latest when the replica closes
		res, err := future.Wait(context.Background())
		if err == nil && res.Outcome != fsm.Applied {
			err = fmt.Errorf("a commit was %s: %s", res.Outcome, res.Reason)
		}
		answer <- err
	}()
	return answer
}

var _ ensemble = (*ours)(nil)

// loadJob reads the job that is trained, in the batches of the measurement.
func loadJob(path string, sets ...string) (*job.Spec, error) {
	spec, _, err := job.Load(path, append([]string{"train.updates=1000000000", "eval.every=0"}, sets...))
	return spec, err
}
