package paramserver_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/pilot"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// fleetPatience bounds every wait of these tests.
const fleetPatience = 40 * time.Second

// fleet is a cluster of whole members in this process: raft on a disk, gossip,
// gRPC and membership; the jobs' servers answer, but train nothing.
type fleet struct {
	t       *testing.T
	ctx     context.Context
	cluster string
	rules   pilot.Rules
	nodes   []*member
}

// member is one of them.
type member struct {
	id, addr string
	rep      *replica.Replica
	mesh     *cluster.Mesh
	srv      *paramserver.Server
	members  *paramserver.Membership
	peers    *paramserver.Peers
	ended    chan error // what Membership.Run answered
	stop     func()
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), fleetPatience)
	t.Cleanup(cancel)
	rules := pilot.Defaults()
	rules.ReplaceAfter = 200 * time.Millisecond
	return &fleet{t: t, ctx: ctx, cluster: uuid.NewString(), rules: rules}
}

// start runs a node; the first one founds the cluster, the others join it.
func (f *fleet) start(role cluster.Role, change func(*replica.Config)) *member {
	t := f.t
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	n := &member{id: uuid.NewString(), ended: make(chan error, 1)}
	first := len(f.nodes) == 0
	var peers *paramserver.Peers
	cfg := replica.Config{
		Dir: t.TempDir(), ID: n.id, Listen: "127.0.0.1:0", Bootstrap: first, ClusterID: f.cluster, Logger: quiet,
		Resolve: func(id string) (string, bool) { return n.mesh.Resolve(id) },
		ReadIndex: func(ctx context.Context) (uint64, error) {
			return peers.ReadIndex(ctx, func() string { id, _ := n.rep.Leader(); return id })
		},
	}
	if change != nil {
		change(&cfg)
	}
	var ready sync.WaitGroup
	ready.Add(1)
	cfg.Resolve = func(id string) (string, bool) { ready.Wait(); return n.mesh.Resolve(id) }
	var err error
	if n.rep, err = replica.Open(cfg); err != nil {
		t.Fatal(err)
	}
	listener, err := cluster.Security{}.Listen(f.ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = listener.Addr().String()
	n.mesh, err = cluster.NewMesh(cluster.MeshConfig{
		NodeID: n.id, ClusterID: f.cluster, Role: role, Bind: "127.0.0.1:0", GRPCAddr: n.addr, RaftAddr: n.rep.Addr(),
		Level: fsm.Supported(), Preset: cluster.Local(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ready.Done()
	peers = paramserver.NewPeers(n.mesh, cluster.DialOptions{})
	n.peers = peers
	n.members = paramserver.NewMembership(paramserver.MembershipConfig{Replica: n.rep, Mesh: n.mesh, Peers: peers, Node: n.id, Rules: f.rules, Clock: clock.Real{}, Logger: quiet})
	n.srv = paramserver.NewServer(paramserver.Config{Replica: n.rep, Mesh: n.mesh, Node: n.id, Addr: n.addr, Clock: clock.Real{}, Logger: quiet})
	rpc := cluster.NewServer(cluster.ServerOptions{ClusterID: func() string { return f.cluster }})
	cluster.RegisterMesh(rpc, n.srv)
	cluster.RegisterMembership(rpc, n.members)
	cluster.RegisterLearning(rpc, n.srv)
	ctx, cancel := context.WithCancel(f.ctx)
	var loops sync.WaitGroup
	loops.Go(func() { rpc.Serve(listener) })
	loops.Go(func() { n.ended <- n.members.Run(ctx) })
	n.stop = sync.OnceFunc(func() {
		closing, done := context.WithTimeout(context.Background(), fleetPatience)
		defer done()
		cancel()
		rpc.Stop()
		loops.Wait()
		if err := errors.Join(peers.Close(), n.mesh.Close(closing), n.rep.Shutdown(closing)); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)

	if first {
		f.until("a leader", n.rep.IsLeader)
		for _, cmd := range []any{fsm.Init{ClusterID: f.cluster}, fsm.Activate{Level: 2}} {
			if _, err := n.rep.Apply(f.ctx, cmd); err != nil {
				t.Fatal(err)
			}
		}
	} else {
		if err := n.mesh.Join(f.ctx, f.nodes[0].mesh.Addr()); err != nil {
			t.Fatal(err)
		}
		req := &wire.JoinRequest{NodeID: n.id, RaftAddr: n.rep.Addr(), GRPCAddr: n.addr, Role: string(role)}
		f.until("a leader that takes "+string(role)+" in", func() bool {
			for _, other := range f.nodes {
				if _, err := other.srv.Join(f.ctx, req); err == nil {
					return true
				}
			}
			return false
		})
	}
	f.nodes = append(f.nodes, n)
	return n
}

func (f *fleet) until(what string, cond func() bool) {
	f.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-f.ctx.Done():
			f.t.Fatalf("never saw %s", what)
		}
	}
}

// voters are the IDs that vote, as a node knows; sorted.
func (n *member) voters() (out []string) {
	servers, err := n.rep.Servers()
	if err != nil {
		return nil
	}
	for _, s := range servers {
		if s.Voter {
			out = append(out, s.ID)
		}
	}
	slices.Sort(out)
	return out
}

func ids(nodes ...*member) (out []string) {
	for _, n := range nodes {
		out = append(out, n.id)
	}
	slices.Sort(out)
	return out
}

func (f *fleet) leader() *member {
	f.t.Helper()
	var leader *member
	f.until("a leader", func() bool {
		for _, n := range f.nodes {
			if _, err := n.rep.ReadIndex(f.ctx); err == nil {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

// apply gives the log a command, which may be there twice then: on a busy machine
// leadership moves while one is under way. It returns the leader that answered.
func (f *fleet) apply(cmd any) (leader *member) {
	f.t.Helper()
	f.until("an answer", func() bool {
		leader = f.leader()
		_, err := leader.rep.Apply(f.ctx, cmd)
		return err == nil
	})
	return leader
}

// kinds lists the events about a node, as another one knows them.
func (n *member) kinds(about string) (out []string) {
	n.rep.Read(func(s *fsm.State) {
		for _, e := range s.Events(0) {
			if e.Node == about {
				out = append(out, e.Kind)
			}
		}
	})
	return out
}

// TestServersBecomeVotersAndSparesReplaceThem runs the pilot on real replicas.
func TestServersBecomeVotersAndSparesReplaceThem(t *testing.T) {
	f := newFleet(t)
	a := f.start(cluster.RoleServer, nil)
	learner := f.start(cluster.RoleLearner, nil)
	b := f.start(cluster.RoleServer, nil)
	if got := a.voters(); !slices.Equal(got, ids(a)) {
		t.Fatalf("two servers and a learner: voters %v", got)
	}
	c := f.start(cluster.RoleServer, nil)
	f.until("three voters", func() bool { return slices.Equal(a.voters(), ids(a, b, c)) })
	d := f.start(cluster.RoleServer, nil)
	f.until("the learner's and the spare's log to be whole", func() bool {
		for _, n := range []*member{learner, d} {
			if last, _ := a.rep.Follower(n.id); last < a.rep.LastIndex() {
				return false
			}
		}
		return true
	})

	dead := b
	dead.stop()
	f.nodes = slices.DeleteFunc(f.nodes, func(n *member) bool { return n == dead })
	f.until("the spare in the place of the dead voter", func() bool { return slices.Equal(f.leader().voters(), ids(a, c, d)) })

	leader := f.leader()
	f.until("the events", func() bool {
		return slices.Equal(leader.kinds(dead.id), []string{fsm.EventJoined, fsm.EventPromoted, fsm.EventDied, paramserver.EventDemoted}) ||
			slices.Equal(leader.kinds(dead.id), []string{fsm.EventJoined, fsm.EventPromoted, paramserver.EventDemoted, fsm.EventDied})
	})
	// The event of a promotion follows it.
	f.until("the spare's promotion", func() bool { return slices.Contains(leader.kinds(d.id), fsm.EventPromoted) })
	if got := leader.kinds(learner.id); slices.Contains(got, fsm.EventPromoted) {
		t.Error("about the learner:", got)
	}
	reply, err := leader.members.Members(f.ctx, &wire.MembersRequest{})
	if err != nil || reply.Quorum != (wire.MembersQuorum{Voters: 3, Alive: 3, Needed: 2}) || reply.Leader != leader.id || reply.Level != 2 {
		t.Fatalf("%+v, %v", reply, err)
	}
	for _, m := range reply.Members {
		want := wire.StandingVoter
		if m.ID == dead.id || m.ID == learner.id {
			want = wire.StandingNonvoter
		}
		if m.Standing != want || m.ID != dead.id && (m.State != "alive" || m.LastIndex == 0 || m.Level != fsm.Supported()) {
			t.Errorf("%+v", m)
		}
	}
}

// TestMembersAreRemovedOnRequest, the leader among them, but never the quorum.
func TestMembersAreRemovedOnRequest(t *testing.T) {
	f := newFleet(t)
	for range 3 {
		f.start(cluster.RoleServer, nil)
	}
	f.until("three voters", func() bool { return len(f.leader().voters()) == 3 })
	leader := f.leader()
	clients := cluster.NewLeader(f.cluster, func() []string {
		var out []string
		for _, n := range f.nodes {
			out = append(out, n.addr)
		}
		return out
	}, cluster.DialOptions{})
	defer clients.Close()
	remove := func(id string) error {
		_, err := cluster.CallIdempotent(f.ctx, clients, (*cluster.Client).Remove, &wire.RemoveRequest{ClusterID: f.cluster, Node: id})
		return err
	}
	if err := remove(leader.id); err != nil {
		t.Fatal(err)
	}
	rest := slices.DeleteFunc(slices.Clone(f.nodes), func(n *member) bool { return n == leader })
	f.until("two voters", func() bool { return slices.Equal(rest[0].voters(), ids(rest...)) })
	if err := remove(leader.id); err != nil {
		t.Fatal("again:", err)
	}
	f.nodes = rest
	leader.stop()
	next := f.leader()
	other := rest[0]
	if other == next {
		other = rest[1]
	}
	// The one that leads would be the only voter left; that is its decision to bear
	// as long as it answers. A dead one may go only if the living suffice.
	if err := remove(other.id); err != nil {
		t.Fatal(err)
	}
	if err := remove(next.id); !errors.Is(err, cluster.ErrConflict) || !strings.Contains(err.Error(), "only voter") {
		t.Fatal(err)
	}
}

// TestAnyReplicaReadsLinearly through Config.ReadIndex over the wire.
func TestAnyReplicaReadsLinearly(t *testing.T) {
	f := newFleet(t)
	for _, role := range []cluster.Role{cluster.RoleServer, cluster.RoleServer, cluster.RoleServer, cluster.RoleLearner} {
		f.start(role, nil)
	}
	f.until("three voters", func() bool { return len(f.leader().voters()) == 3 })
	for i := range 20 {
		leader := f.apply(fsm.Note{Kind: fsm.EventRollback, Detail: string(rune('a' + i))})
		var want uint64
		leader.rep.Read(func(s *fsm.State) { want = s.Index() })
		for _, n := range f.nodes {
			// A replica that finds no leader says so; it never answers from the past.
			f.until("a linearizable answer", func() bool {
				reply, err := n.srv.Status(f.ctx, &wire.StatusRequest{Linearizable: true})
				if err == nil && reply.Applied < want || err != nil && !errors.Is(err, cluster.ErrUnavailable) {
					t.Fatalf("%s: applied %v, want %d at least; %v", n.id, reply, want, err)
				}
				return err == nil
			})
			f.until("a definite no", func() bool {
				_, err := n.srv.State(f.ctx, &wire.StateRequest{Job: "no such job"})
				if !errors.Is(err, cluster.ErrNotFound) && !errors.Is(err, cluster.ErrUnavailable) {
					t.Fatal(err)
				}
				return errors.Is(err, cluster.ErrNotFound)
			})
		}
	}
}

// garbled flips a bit in the memory of one replica: in the command at one index.
func garbled(marker string) func(*replica.Config) {
	return func(c *replica.Config) {
		c.ApplyFault = func(_ uint64, command []byte) []byte {
			if at := bytes.Index(command, []byte(marker)); at >= 0 {
				command = bytes.Clone(command)
				command[at] ^= 1
			}
			return command
		}
	}
}

// notes applies enough commands for a checkpoint.
func (f *fleet) notes(marker string) {
	f.t.Helper()
	for i := range 70 {
		detail := "filler"
		if i == 0 {
			detail = marker
		}
		f.apply(fsm.Note{Kind: fsm.EventRollback, Detail: detail})
	}
}

// TestTheReplicaThatDiffersFromTheMajorityStops: one of three, in memory.
func TestTheReplicaThatDiffersFromTheMajorityStops(t *testing.T) {
	f := newFleet(t)
	f.start(cluster.RoleServer, nil)
	f.start(cluster.RoleServer, nil)
	wrong := f.start(cluster.RoleServer, garbled("marker"))
	f.until("three voters", func() bool { return len(f.leader().voters()) == 3 })
	f.notes("marker")
	select {
	case err := <-wrong.ended:
		if !errors.Is(err, replica.ErrDiverged) || !errors.Is(err, replica.ErrDamaged) || !strings.Contains(err.Error(), wrong.id) {
			t.Fatal(err)
		}
	case <-f.ctx.Done():
		t.Fatal("it goes on")
	}
	f.nodes = f.nodes[:2]
	f.notes("the others go on")
	for _, n := range f.nodes {
		if n.rep.Err() != nil {
			t.Error(n.rep.Err())
		}
	}
}

// TestWithoutAMajorityTheJobsPause: two of three answer, and differ.
func TestWithoutAMajorityTheJobsPause(t *testing.T) {
	f := newFleet(t)
	f.start(cluster.RoleServer, nil)
	f.start(cluster.RoleServer, garbled("marker"))
	third := f.start(cluster.RoleServer, nil)
	f.until("three voters", func() bool { return len(f.leader().voters()) == 3 })
	f.apply(fsm.CreateJob{Job: "j", Spec: []byte("{}"), Updates: 10})
	third.stop()
	f.nodes = f.nodes[:2]
	f.notes("marker")
	f.until("the pause", func() (paused bool) {
		f.nodes[0].rep.Read(func(s *fsm.State) {
			j, _ := s.Job("j")
			paused = j.Status == fsm.Paused && strings.Contains(j.Reason, "no majority")
		})
		return paused
	})
	for _, n := range f.nodes {
		if n.rep.Err() != nil {
			t.Error(n.rep.Err())
		}
	}
}
