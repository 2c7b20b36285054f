package paramserver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// trainee is a job that the node n may commit to.
func (f *fleet) trainee(n *member) {
	f.t.Helper()
	for _, cmd := range []any{
		fsm.CreateJob{Job: "j", Spec: []byte("{}"), Updates: 1 << 40},
		fsm.Grant{Job: "j", Epoch: 1, Node: n.id, Addr: n.addr},
	} {
		if res, err := f.leader().rep.Apply(f.ctx, cmd); err != nil || res.Outcome != fsm.Applied {
			f.t.Fatalf("%T: %+v, %v", cmd, res, err)
		}
	}
}

// version is a Commit of the next version; size bytes of parameters.
func version(v uint64, size int) *fsm.Commit {
	params := make([]byte, size)
	binary.LittleEndian.PutUint64(params, v)
	c := &fsm.Commit{Job: "j", Epoch: 1, Base: v - 1, Version: v, Params: params}
	if v == 1 {
		c.Base = 0
	}
	return c
}

func (f *fleet) uplink(n *member) paramserver.Log {
	log, stop := paramserver.NewUplink(n.rep, n.peers, func() *wire.LearnerHello {
		return &wire.LearnerHello{ClusterID: f.cluster, Node: n.id, Addr: n.addr, Leases: []wire.Lease{{Job: "j", Epoch: 1}}}
	}, slog.New(slog.DiscardHandler))
	f.t.Cleanup(stop)
	return log
}

// TestCommitsOutliveLeaders: a learner's node commits, two windows in flight,
// while leadership moves from server to server and one of them dies. Every
// commit counts once, in order, and every answer says so.
func TestCommitsOutliveLeaders(t *testing.T) {
	f := newFleet(t)
	a := f.start(cluster.RoleServer, nil)
	n := f.start(cluster.RoleLearner, nil)
	b, c := f.start(cluster.RoleServer, nil), f.start(cluster.RoleServer, nil)
	f.until("three voters", func() bool { return len(a.voters()) == 3 })
	f.trainee(n)
	log := f.uplink(n)

	const commits = 300
	var before <-chan paramserver.Answer
	collect := func(v uint64) {
		t.Helper()
		select {
		case got := <-before:
			if got.Err != nil || got.Result.Outcome != fsm.Applied && got.Result.Outcome != fsm.AlreadyApplied {
				t.Fatalf("version %d: %+v", v, got)
			}
		case <-f.ctx.Done():
			t.Fatalf("no answer to version %d", v)
		}
	}
	for v := uint64(1); v <= commits; v++ {
		answer, err := log.Commit(f.ctx, version(v, 64))
		if err != nil {
			t.Fatal(err)
		}
		if before != nil {
			collect(v - 1)
		}
		before = answer
		switch {
		case v == commits/2:
			f.leader().stop()
			f.nodes = nil
			for _, s := range []*member{a, b, c} {
				if s.rep.Err() == nil && s.rep.Term() > 0 {
					select {
					case <-s.rep.Done():
					default:
						f.nodes = append(f.nodes, s)
					}
				}
			}
		case v%40 == 0 && v < commits/2:
			if err := f.leader().rep.TransferLeadership(f.ctx); err != nil {
				t.Log(err) // lost in a race with an election
			}
		}
	}
	collect(commits)
	if err := f.leader().rep.Linearize(f.ctx); err != nil {
		t.Fatal(err)
	}
	f.leader().rep.Read(func(s *fsm.State) {
		if j, ok := s.Job("j"); !ok || j.Version != commits || binary.LittleEndian.Uint64(j.Params) != commits {
			t.Errorf("%+v", j)
		}
	})
}

// TestLargeCommitsTravelInParts, and the signs of life between them.
func TestLargeCommitsTravelInParts(t *testing.T) {
	f := newFleet(t)
	a := f.start(cluster.RoleServer, nil)
	n := f.start(cluster.RoleLearner, nil)
	f.trainee(n)
	log := f.uplink(n)
	const size = 9<<20 + 4
	answer, err := log.Commit(f.ctx, version(1, size))
	if err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got.Err != nil || got.Result.Outcome != fsm.Applied {
		t.Fatalf("%+v", got)
	}
	a.rep.Read(func(s *fsm.State) {
		if j, _ := s.Job("j"); len(j.Params) != size {
			t.Errorf("%d bytes", len(j.Params))
		}
	})
	// A commit whose context ends is not sent again, and its fate is not known.
	ctx, cancel := context.WithCancel(f.ctx)
	a.stop()
	answer, err = log.Commit(ctx, version(2, 64))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if got := <-answer; got.Err == nil {
		t.Errorf("answered without a server: %+v", got)
	}
}

// TestLearnRefuses what no learner's node says.
func TestLearnRefuses(t *testing.T) {
	f := newFleet(t)
	a := f.start(cluster.RoleServer, nil)
	hello := func() *wire.LearnerUp {
		return &wire.LearnerUp{Hello: &wire.LearnerHello{ClusterID: f.cluster, Node: "n", Addr: "127.0.0.1:1"}}
	}
	command := func(cmd any) *wire.CommandPart {
		data, err := fsm.Encode(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return &wire.CommandPart{ID: 1, Data: data, Last: true}
	}
	foreign := hello()
	foreign.Hello.ClusterID = "another"
	nameless := hello()
	nameless.Hello.Node = ""
	for name, c := range map[string]struct {
		messages []*wire.LearnerUp
		want     error
		text     string
	}{
		"no greeting":           {[]*wire.LearnerUp{{}}, cluster.ErrInvalid, "Hello"},
		"another cluster":       {[]*wire.LearnerUp{foreign}, cluster.ErrForeignCluster, "another"},
		"no name":               {[]*wire.LearnerUp{nameless}, nil, "name of 0 bytes"},
		"a grant":               {[]*wire.LearnerUp{hello(), {Part: command(fsm.Grant{Job: "j", Epoch: 9, Node: "n"})}}, cluster.ErrInvalid, "commits and compactions only"},
		"no command":            {[]*wire.LearnerUp{hello(), {Part: &wire.CommandPart{ID: 1, Data: []byte("nonsense"), Last: true}}}, cluster.ErrInvalid, "commits and compactions only"},
		"one within another":    {[]*wire.LearnerUp{hello(), {Part: &wire.CommandPart{ID: 1, Data: command(version(1, 64)).Data[:50]}}, {Part: command(version(1, 64))}, {Part: &wire.CommandPart{ID: 2, Data: []byte{1}}}, {Part: &wire.CommandPart{ID: 3, Data: []byte{1}}}}, cluster.ErrInvalid, ""},
		"a commit that is none": {[]*wire.LearnerUp{hello(), {Part: &wire.CommandPart{ID: 1, Data: command(version(1, 64)).Data[:50], Last: true}}, {Part: &wire.CommandPart{ID: 2, Data: []byte{0}}}}, cluster.ErrInvalid, ""},
	} {
		client, err := cluster.Dial(a.addr, cluster.DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := client.Learn(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range c.messages {
			if stream.Send(m) != nil {
				break // refused already
			}
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v: %s", name, err, c.want, c.text)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	if !a.rep.IsLeader() || a.rep.Err() != nil {
		t.Error("the server is gone")
	}
}
