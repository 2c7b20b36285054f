package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/faults"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/pilot"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// checkCare finds faults in the flags of what a server does for its data.
func (f *serverFlags) checkCare() error {
	var errs []error
	if f.deadAfter < 0 {
		errs = append(errs, fielderr.New("--dead-server-after", f.deadAfter, "a time such as 10m, or 0 for the default"))
	}
	if f.scrub < 0 {
		errs = append(errs, fielderr.New("--scrub-every", f.scrub, "a time such as 1h, or 0 for the default"))
	}
	if f.rate < 0 || f.rate > 1<<20 {
		errs = append(errs, fielderr.New("--scrub-rate", f.rate, "MiB per second, at most 1048576, or 0 for the default"))
	}
	return errors.Join(errs...)
}

// rules are the pilot's, with what the flags say.
func (f *serverFlags) rules() pilot.Rules {
	r := pilot.Defaults()
	if f.deadAfter > 0 {
		r.DeadAfter = f.deadAfter
	}
	return r
}

// enter makes the node a member: of the gossip, through the servers that it
// remembers or was told of, and of the replicated log, if it is not in it yet.
func enter(ctx context.Context, f *serverFlags, id *cluster.Identity, book *addressBook, mesh *cluster.Mesh, rep *replica.Replica, addr string, links *links) error {
	// Whoever of them is not up yet is asked again by the mesh itself, so that
	// servers find each other again in any order of starts.
	if seeds := book.seeds(id.NodeID()); len(seeds) > 0 {
		if err := mesh.Join(ctx, seeds...); errors.Is(err, cluster.ErrForeignCluster) {
			return err
		}
	}
	if f.init {
		return found(ctx, id, rep)
	}
	servers, err := rep.Servers()
	if err != nil {
		return err
	}
	member := false
	for _, s := range servers {
		member = member || s.ID == id.NodeID()
	}
	if member && (len(f.join) == 0 || len(book.seeds(id.NodeID())) > 0) {
		if len(servers) > 1 && len(book.seeds(id.NodeID())) == 0 {
			// The others may not know this node's addresses, and it not theirs.
			return fielderr.New("--join", nil, "the gRPC address of another server, because this one is a voter among several and remembers no address")
		}
		return nil
	}
	if len(f.join) == 0 {
		return fielderr.New("--join", nil, "the gRPC address of a server of the cluster, because this one has not been taken in yet")
	}
	if reply, err := f.introduce(ctx, &wire.JoinRequest{ClusterID: id.ClusterID(), NodeID: id.NodeID()}, links.dial(faults.RPC)); err != nil {
		return strangers(err, id)
	} else if err := mesh.Join(ctx, reply.Gossip...); err != nil {
		return err
	}
	if member {
		return nil
	}
	leader := cluster.NewLeader(id.ClusterID(), func() []string { return f.join }, links.dial(faults.RPC))
	defer leader.Close()
	_, err = cluster.CallIdempotent(ctx, leader, (*cluster.Client).Join, &wire.JoinRequest{
		ClusterID: id.ClusterID(), NodeID: id.NodeID(), RaftAddr: rep.Addr(), GRPCAddr: addr, Role: string(f.role),
	})
	return err
}

// strangers says what it means that the server at --join is of another cluster.
func strangers(err error, id *cluster.Identity) error {
	if !errors.Is(err, cluster.ErrForeignCluster) {
		return err
	}
	return fmt.Errorf("the data directory %s belongs to cluster %s, the server at --join does not: either --join names the wrong server, or that server was started with an emptied directory and founded a cluster anew; in the second case the old cluster is gone (driftmesh restore brings a backup back) and this node needs a new --data directory: %w",
		id.Dir(), id.ClusterID(), err)
}

// found commits the first commands of a new cluster: its identity, and the
// feature level of this build, as there is no older member to wait for.
func found(ctx context.Context, id *cluster.Identity, rep *replica.Replica) error {
	for {
		var known string
		changed := rep.Changed()
		rep.Read(func(s *fsm.State) { known = s.ClusterID() })
		if known == id.ClusterID() {
			return nil
		}
		if known != "" {
			return fmt.Errorf("the log is of cluster %s, the data directory of cluster %s", known, id.ClusterID())
		}
		if rep.IsLeader() {
			now := time.Now().UnixNano()
			cmds := []any{&fsm.Init{ClusterID: id.ClusterID(), Stamp: now}}
			if fsm.Supported() > 1 { // level 1 is where every cluster begins
				cmds = append(cmds, &fsm.Activate{Level: fsm.Supported(), Stamp: now})
			}
			for _, cmd := range cmds {
				if _, err := rep.Apply(ctx, cmd); err != nil && !errors.Is(err, replica.ErrNotLeader) {
					return err
				}
			}
			continue
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond): // winning an election applies nothing
		case <-ctx.Done():
			return nil
		}
	}
}
