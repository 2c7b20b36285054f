package chaos

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/wire"
)

func status(index uint64, chain string, epoch, commitEpoch, version uint64, hash string) *wire.StatusReply {
	return &wire.StatusReply{Applied: index, Chain: []byte(chain), Jobs: []wire.JobInfo{{ID: "j", Epoch: epoch, CommitEpoch: commitEpoch, Version: version, StateHash: []byte(hash)}}}
}

func TestLedgerCatches(t *testing.T) {
	now := func(version uint64, hash string) wire.JobInfo {
		return wire.JobInfo{ID: "j", Version: version, StateHash: []byte(hash)}
	}
	for name, c := range map[string]struct {
		seen []*wire.StatusReply
		now  wire.JobInfo
		want error
	}{
		"nothing wrong": {[]*wire.StatusReply{status(5, "a", 1, 1, 10, "x"), status(6, "b", 2, 1, 10, "x"), status(7, "c", 2, 2, 20, "y"), status(5, "a", 1, 1, 10, "x")}, now(20, "y"), nil},
		"diverged":      {[]*wire.StatusReply{status(5, "a", 1, 1, 10, "x"), status(5, "b", 1, 1, 10, "x")}, now(10, "x"), ErrDiverged},
		"lost":          {[]*wire.StatusReply{status(5, "a", 1, 1, 10, "x")}, now(9, "w"), ErrLost},
		"rewritten":     {[]*wire.StatusReply{status(5, "a", 1, 1, 10, "x"), status(9, "d", 2, 2, 10, "z")}, now(10, "z"), ErrLost},
		"fenced write":  {[]*wire.StatusReply{status(5, "a", 1, 1, 10, "x"), status(6, "b", 2, 1, 10, "x"), status(7, "c", 2, 1, 20, "y")}, now(20, "y"), ErrFencedWrite},
	} {
		l := NewLedger()
		for _, s := range c.seen {
			l.See("n", s, "j")
		}
		if err := l.Check(c.now); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestAccountCatches(t *testing.T) {
	sum := sha256.Sum256([]byte("params"))
	digest := hex.EncodeToString(sum[:])
	good := []journal.Entry{
		{Kind: journal.Opened, Session: "s"},
		{Kind: journal.Proposed, Version: 0, Epoch: 1, Time: 1},
		{Kind: journal.Committed, Version: 0, Epoch: 1, Time: 2},
		{Kind: journal.Adopted, Session: "s", Version: 0, Epoch: 1, Digest: "p", Time: 3},
		{Kind: journal.Sampled, Session: "s", First: 1, Last: 16, Time: 10},
		{Kind: journal.Proposed, Version: 1, Epoch: 1, Time: 20},
		{Kind: journal.Sampled, Session: "s", First: 17, Last: 32, Time: 21},
		{Kind: journal.Committed, Version: 1, Epoch: 1, Time: 30},
		{Kind: journal.Marked, Session: "s", Last: 16, Time: 31},
		{Kind: journal.Adopted, Session: "s", Version: 1, Epoch: 1, Digest: digest},
	}
	state := func(mark, admitted, version uint64) *wire.StateReply {
		return &wire.StateReply{
			Info:     wire.JobInfo{Version: version, Trajectories: mark},
			Params:   []byte("params"),
			Sessions: []wire.SessionInfo{{ID: "s", Mark: mark, Admitted: admitted}},
		}
	}
	for name, c := range map[string]struct {
		more  []journal.Entry
		state *wire.StateReply
		want  error
	}{
		"nothing wrong":       {nil, state(16, 16, 1), nil},
		"counted twice":       {nil, state(16, 16, 2), ErrMiscounted},
		"never sampled":       {nil, state(48, 48, 3), ErrMiscounted},
		"lost after its mark": {nil, state(0, 0, 0), ErrUncounted},
		"session lost":        {nil, &wire.StateReply{}, ErrUncounted},
		"a hole":              {[]journal.Entry{{Kind: journal.Sampled, Session: "s", First: 40, Last: 41}}, state(16, 16, 1), ErrMiscounted},
		"regression":          {[]journal.Entry{{Kind: journal.Adopted, Session: "s", Version: 0, Epoch: 1, Digest: "p"}}, state(16, 16, 1), ErrRegression},
		"two contents":        {[]journal.Entry{{Kind: journal.Adopted, Session: "s", Version: 1, Epoch: 1, Digest: "r"}}, state(16, 16, 1), ErrLost},
		"two epochs": {[]journal.Entry{
			{Kind: journal.Proposed, Version: 1, Epoch: 2}, {Kind: journal.Committed, Version: 1, Epoch: 2},
		}, state(16, 16, 1), ErrLost},
		"a lost commit":  {[]journal.Entry{{Kind: journal.Proposed, Version: 2, Epoch: 1}, {Kind: journal.Committed, Version: 2, Epoch: 1}}, state(16, 16, 1), ErrLost},
		"another commit": {nil, &wire.StateReply{Info: state(16, 16, 1).Info, Sessions: state(16, 16, 1).Sessions, Params: []byte("others")}, ErrLost},
		"a fenced commit": {[]journal.Entry{
			{Kind: journal.Proposed, Version: 2, Epoch: 3}, {Kind: journal.Committed, Version: 2, Epoch: 3},
			{Kind: journal.Proposed, Version: 3, Epoch: 2}, {Kind: journal.Committed, Version: 3, Epoch: 2},
		}, state(48, 48, 3), ErrFencedWrite},
		"never proposed": {[]journal.Entry{{Kind: journal.Adopted, Session: "s", Version: 2, Epoch: 7, Digest: "r"}}, state(32, 32, 2), ErrFencedWrite},
		"a dead proposal": {[]journal.Entry{
			{Kind: journal.Proposed, Version: 2, Epoch: 1}, {Kind: journal.Ended, Epoch: 1, Detail: "learner is fenced"},
		}, state(16, 16, 1), nil},
		"a mark too far": {[]journal.Entry{{Kind: journal.Marked, Session: "s", Last: 99}}, state(16, 16, 1), ErrMiscounted},
	} {
		a := NewAccount()
		for _, e := range append(append([]journal.Entry(nil), good...), c.more...) {
			a.Take("n", e)
		}
		if err := errors.Join(a.Check(c.state, 16, 100), a.CheckPublished(c.state)); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	a := NewAccount()
	for _, e := range good {
		a.Take("n", e)
	}
	for _, c := range []struct {
		from, to           int64
		commit, trajectory bool
	}{{3, 5, false, false}, {11, 12, false, true}, {22, 22, true, true}, {40, 50, false, true}, {5, 25, true, true}} {
		if commit, trajectory := a.Overlap(c.from, c.to); commit != c.commit || trajectory != c.trajectory {
			t.Errorf("overlap of %d to %d: %v and %v", c.from, c.to, commit, trajectory)
		}
	}
	if n := a.Sampled(10, 21); n != 16 {
		t.Errorf("%d sampled", n)
	}
	// What had been proposed before the mesh healed says nothing of its health.
	for after, want := range map[int64]int{0: 2, 1: 1, 19: 1, 20: 0} {
		if n := a.Commits(after); n != want {
			t.Errorf("%d commits after %d, want %d", n, after, want)
		}
	}
}
