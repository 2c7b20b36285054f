package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// confirmPause is between two questions to a voter that did not answer, doubled each
// time up to confirmPauses of it. A leader that is cut off steps down by itself soon.
const (
	confirmPause  = 5 * time.Millisecond
	confirmPauses = 8
)

// confirm returns once a majority of the voters, this one included, has acknowledged
// the term in an answer to a question that was asked after the call. No leader of a later
// term can have answered anything before that: it needed the vote of one of them.
//
// raft's own VerifyLeader asks for less. It counts the next answer of each voter, which may
// be one to a heartbeat that was sent earlier, and then be older than another leader's
// first commands.
//
// The question is a heartbeat, which a voter takes at any time.
func (r *Replica) confirm(ctx context.Context, term uint64) error {
	voters, missing, err := r.quorum()
	if err != nil || missing == 0 {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, len(voters))
	for _, v := range voters {
		if !r.goFunc(func() { answers <- r.acknowledged(ctx, v, term) }) {
			return ErrClosed
		}
	}
	for left := len(voters); ; left-- {
		if left < missing {
			return fmt.Errorf("%w: %w", ErrNotLeader, err)
		}
		select {
		case e := <-answers:
			if e != nil {
				err = e
			} else if missing--; missing == 0 {
				return nil
			}
		case <-r.done:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// quorum are the other voters, and how many of them make a majority with this one.
func (r *Replica) quorum() (others []raft.Server, missing int, err error) {
	future := r.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, 0, readError(err)
	}
	all, self := 0, 0
	for _, s := range future.Configuration().Servers {
		switch {
		case s.Suffrage != raft.Voter:
			continue
		case string(s.ID) == r.cfg.ID:
			self = 1
		default:
			others = append(others, s)
		}
		all++
	}
	return others, all/2 + 1 - self, nil
}

// acknowledged asks a voter until it answers, or nobody waits, or this node leads no more.
func (r *Replica) acknowledged(ctx context.Context, v raft.Server, term uint64) error {
	for pause := confirmPause; ; pause = min(2*pause, confirmPauses*confirmPause) {
		answer, err := r.heartbeat(v, term)
		switch {
		case err == nil && answer.Success:
			return nil
		case err == nil:
			return fmt.Errorf("voter %s is in term %d, above %d", v.ID, answer.Term, term)
		case !r.IsLeader():
			return fmt.Errorf("voter %s: %w", v.ID, err)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

func (r *Replica) heartbeat(v raft.Server, term uint64) (*raft.AppendEntriesResponse, error) {
	self := r.trans.EncodePeer(raft.ServerID(r.cfg.ID), r.trans.LocalAddr())
	question := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(r.cfg.ID), Addr: self},
		Term:      term,
		Leader:    self,
	}
	var answer raft.AppendEntriesResponse
	return &answer, r.trans.AppendEntries(v.ID, v.Address, question, &answer)
}
