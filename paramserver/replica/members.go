package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/hashicorp/raft"
)

// ErrSingle refuses a second voter on a replica with single-voter timeouts.
var ErrSingle = errors.New("this server was founded to stay the only one (--single); start it without --single before others join")

// catchUpRound is how fast a new server must fetch what was appended while it
// fetched the rest, before it becomes a voter (Ongaro's thesis, section 4.2.1).
const catchUpRound = 100 * time.Millisecond

// Server is a member of the replicated configuration.
type Server struct {
	ID    string
	Addr  string // as configured; Config.Resolve knows the present one
	Voter bool
}

// Servers lists the members of the latest configuration that this node knows.
func (r *Replica) Servers() ([]Server, error) {
	future := r.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("read the raft configuration: %w", err)
	}
	var out []Server
	for _, s := range future.Configuration().Servers {
		out = append(out, Server{ID: string(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return out, nil
}

// Leader is the node that this one believes to lead, with its raft address;
// both are "" while there is none.
func (r *Replica) Leader() (id, addr string) {
	a, i := r.raft.LeaderWithID()
	return string(i), string(a)
}

// IsLeader says whether this node believes to lead. Only Linearize makes sure.
func (r *Replica) IsLeader() bool { return r.raft.State() == raft.Leader }

// LeaderCh tells of every gain and loss of leadership; unread tidings are
// replaced by newer ones. There is one channel for all callers.
func (r *Replica) LeaderCh() <-chan bool { return r.raft.LeaderCh() }

// LastIndex is the index of the last entry in this node's log.
func (r *Replica) LastIndex() uint64 { return r.raft.LastIndex() }

// Follower says how far a member's log reaches and when it last answered this
// node as its leader; zeros for one that never did.
func (r *Replica) Follower(id string) (lastIndex uint64, contact time.Time) {
	if r.trans == nil {
		return 0, time.Time{}
	}
	return r.trans.follower(raft.ServerID(id))
}

// Term is the current raft term.
func (r *Replica) Term() uint64 { return r.raft.CurrentTerm() }

// AddNonvoter adds a node that receives the log and has no vote: a learner, or
// a spare server. Adding a member again does nothing unless its address changed;
// a voter keeps its vote. The errors are those of Apply and ErrSingle.
func (r *Replica) AddNonvoter(ctx context.Context, id, addr string) error {
	if r.cfg.Single {
		return ErrSingle
	}
	if id == "" || addr == "" {
		return fielderr.New("member", id+"@"+addr, "a node ID and its raft address")
	}
	servers, err := r.Servers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.ID == id && (s.Voter || s.Addr == addr) {
			return nil
		}
	}
	sid := raft.ServerID(id)
	r.trans.forget(sid)
	if err := r.change(ctx, r.raft.AddNonvoter(sid, raft.ServerAddress(addr), 0, enqueueTimeout)); err != nil {
		return fmt.Errorf("add %s without a vote: %w", id, err)
	}
	return nil
}

// AddVoter brings a server into the cluster: first without a vote, until its
// log has caught up, so that a quorum never waits for a newcomer. If ctx ends
// before that the server stays a non-voter, and AddVoter may be called again.
// The errors are those of Apply and ErrSingle.
func (r *Replica) AddVoter(ctx context.Context, id, addr string) error {
	if r.cfg.Single {
		return ErrSingle
	}
	if id == "" || addr == "" {
		return fielderr.New("voter", id+"@"+addr, "a node ID and its raft address")
	}
	servers, err := r.Servers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.ID == id && s.Voter {
			return nil
		}
	}
	if err := r.AddNonvoter(ctx, id, addr); err != nil {
		return err
	}
	sid, saddr := raft.ServerID(id), raft.ServerAddress(addr)
	if err := r.awaitCatchUp(ctx, sid); err != nil {
		return fmt.Errorf("wait for %s to catch up: %w", id, err)
	}
	if err := r.change(ctx, r.raft.AddVoter(sid, saddr, 0, enqueueTimeout)); err != nil {
		return fmt.Errorf("promote %s: %w", id, err)
	}
	return nil
}

// awaitCatchUp waits, round after round, for the server to reach the end that
// the log had when the round began, until a round is short.
func (r *Replica) awaitCatchUp(ctx context.Context, id raft.ServerID) error {
	for {
		start, target := time.Now(), r.raft.LastIndex()
		for {
			reached, moved := r.trans.progress(id)
			if reached >= target {
				break
			}
			select {
			case <-moved:
			case <-r.stop:
				return ErrClosed
			case <-r.done:
				return ErrClosed
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if !r.IsLeader() {
			return ErrNotLeader
		}
		if time.Since(start) < catchUpRound {
			return nil
		}
	}
}

// RemoveServer takes a server, voter or not, out of the cluster. Removing a
// server that is no member does nothing. The errors are those of Apply.
func (r *Replica) RemoveServer(ctx context.Context, id string) error {
	if err := r.change(ctx, r.raft.RemoveServer(raft.ServerID(id), 0, enqueueTimeout)); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	if r.trans != nil {
		r.trans.forget(raft.ServerID(id))
	}
	return nil
}

// Demote takes a voter's vote and leaves it the log. The errors are those of Apply.
func (r *Replica) Demote(ctx context.Context, id string) error {
	if err := r.change(ctx, r.raft.DemoteVoter(raft.ServerID(id), 0, enqueueTimeout)); err != nil {
		return fmt.Errorf("demote %s: %w", id, err)
	}
	return nil
}

// TransferLeadership hands leadership to the voter whose log reaches furthest.
// It fails with ErrNotLeader on a follower and with ErrUnknown when no voter
// took over in time; then this node may lead on.
func (r *Replica) TransferLeadership(ctx context.Context) error {
	if !r.IsLeader() {
		return ErrNotLeader
	}
	if !r.hasOtherVoters() {
		return fmt.Errorf("%w: there is no other voter", ErrUnknown)
	}
	return r.change(ctx, r.raft.LeadershipTransfer())
}

func (r *Replica) change(ctx context.Context, f raft.Future) error {
	err := r.await(ctx, f)
	switch {
	case err == nil, errors.Is(err, ErrClosed):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
	return outcome(err)
}
