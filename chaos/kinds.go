package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/faults"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// kind is one way to break a mesh. run strikes, heals, and leaves every process
// running and every link whole.
type kind struct {
	name string
	run  func(context.Context, *attempt) error
}

var kinds = []kind{
	{"kill-leader", killLeader},
	{"kill-learner", killLearner},
	{"kill-both", killBoth},
	{"stop-learner", stopLearner},
	{"cut-link", cutLink},
	{"cut-one-way", cutOneWay},
	{"reset-links", resetLinks},
	{"slow-link", slowLink},
	{"stale-replica", staleReplica},
	{"lose-minority", loseMinority},
	{"lose-quorum", loseQuorum},
	{"kill-all", killAll},
	{"full-disk", fullDisk},
	{"flip-bytes", flipBytes},
}

// KindNames lists the kinds of rounds.
func KindNames() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// errSkip: this machine or this mesh cannot carry the round out.
var errSkip = errors.New("skipped")

// draw chooses the kind of round i. Each kind comes once in as many rounds as
// there are kinds, in an order that the seed shuffles anew every time.
func (t *torture) draw(i int) (kind, error) {
	names := t.Kinds
	if len(names) == 0 {
		names = KindNames()
	}
	turn := i % len(names)
	if !t.Fixed {
		turn = rng.New(t.Seed, rng.Fault, uint64(i/len(names)), shuffles).Perm(len(names))[turn]
	}
	for _, k := range kinds {
		if k.name == names[turn] {
			return k, nil
		}
	}
	return kind{}, fielderr.New("kind", names[turn], fmt.Sprint(KindNames()))
}

// shuffles tells the stream of orders from those of the rounds.
const shuffles = 1 << 32

// leader returns the node that leads. The mesh is whole when a round begins, so
// one does.
func (a *attempt) leader(ctx context.Context) (n *Node, err error) {
	err = a.within(ctx, a.Recovery, func(ctx context.Context) error { n, err = a.rig.Lead(ctx); return err })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStuck, err)
	}
	return n, nil
}

// learner returns the node that trains the job.
func (a *attempt) learner(ctx context.Context) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Recovery)
	defer cancel()
	for {
		lead, err := a.leader(ctx)
		if err != nil {
			return nil, err
		}
		if reply, err := a.rig.Status(ctx, lead, a.Spec.Name); err == nil && len(reply.Jobs) == 1 && reply.Jobs[0].Learner != "" {
			if n := a.rig.ByID(reply.Jobs[0].Learner); n != nil && n.Running() {
				return n, nil
			}
		}
		if err := rest(ctx, lookEvery); err != nil {
			return nil, fmt.Errorf("%w: nobody trains: %w", ErrStuck, err)
		}
	}
}

// killed strikes nodes with SIGKILL at once, and starts them again after a while.
func (a *attempt) killed(ctx context.Context, after time.Duration, nodes ...*Node) error {
	slices.SortFunc(nodes, func(x, y *Node) int { return int(x.PID()) - int(y.PID()) })
	nodes = slices.Compact(nodes)
	for _, n := range nodes {
		a.note("%s", n.Name)
	}
	err := a.strike(ctx, func() error {
		var wg sync.WaitGroup
		errs := make([]error, len(nodes))
		for i, n := range nodes {
			wg.Go(func() { errs[i] = n.Kill() })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	if after > 0 {
		err = errors.Join(err, rest(ctx, time.Duration(a.random.Float64()*float64(after))))
	}
	for _, n := range nodes {
		if !n.Running() {
			err = errors.Join(err, a.rig.Restart(n))
		}
	}
	return err
}

func killLeader(ctx context.Context, a *attempt) error {
	n, err := a.leader(ctx)
	if err != nil {
		return err
	}
	return a.killed(ctx, 2*time.Second, n)
}

func killLearner(ctx context.Context, a *attempt) error {
	n, err := a.learner(ctx)
	if err != nil {
		return err
	}
	return a.killed(ctx, 2*time.Second, n)
}

func killBoth(ctx context.Context, a *attempt) error {
	lead, err := a.leader(ctx)
	if err != nil {
		return err
	}
	n, err := a.learner(ctx)
	if err != nil {
		return err
	}
	return a.killed(ctx, 2*time.Second, lead, n)
}

func stopLearner(ctx context.Context, a *attempt) error {
	n, err := a.learner(ctx)
	if err != nil {
		return err
	}
	a.note("%s for %s", n.Name, a.StopFor)
	err = a.strike(ctx, func() error { return n.Signal(syscall.SIGSTOP) })
	err = errors.Join(err, rest(ctx, a.StopFor))
	a.to = time.Now()
	return errors.Join(err, n.Signal(syscall.SIGCONT))
}

func killAll(ctx context.Context, a *attempt) error {
	return a.killed(ctx, time.Second, a.rig.Nodes()...)
}

// faulty strikes with links, which last for a while of at most hold.
func (a *attempt) faulty(ctx context.Context, hold time.Duration, links ...wire.LinkFault) error {
	if err := a.strike(ctx, func() error { return nil }); err != nil {
		return err
	}
	return a.hurt(ctx, hold, links...)
}

// hurt puts links into force, for a while of at most hold.
func (a *attempt) hurt(ctx context.Context, hold time.Duration, links ...wire.LinkFault) error {
	_, err := a.rig.Inject(ctx, links, nil)
	if err == nil {
		err = a.hold(ctx, hold)
	}
	a.to = time.Now()
	struck, herr := a.rig.Inject(context.WithoutCancel(ctx), nil, nil)
	a.missed = struck == 0 // nothing travels there
	return errors.Join(err, herr)
}

// link draws two nodes that talk to each other on a plane: everybody gossips
// with everybody, and the rest goes through the leader or the learner.
func (a *attempt) link(ctx context.Context, plane string) (from, to *Node, err error) {
	others := a.rig.Nodes()
	switch plane {
	case "", faults.Gossip:
		from = a.pick(a.rig.Nodes(cluster.RoleServer, roleLearner))
	case faults.Raft:
		others = a.rig.Nodes(cluster.RoleServer, roleLearner)
		from, err = a.leader(ctx)
	case faults.RPC:
		if a.random.IntN(2) == 0 {
			from, err = a.learner(ctx)
			break
		}
		from, err = a.leader(ctx)
	case faults.Parameters:
		others = a.rig.Nodes(cluster.RoleWorker)
		from, err = a.leader(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	for to == nil || to == from {
		to = a.pick(others)
	}
	if a.random.IntN(2) == 0 {
		from, to = to, from
	}
	return from, to, nil
}

// cut describes links that are cut in one direction or both, on one plane or all.
func (a *attempt) cut(from, to *Node, plane string, both bool) ([]wire.LinkFault, error) {
	f, err := from.ID()
	if err != nil {
		return nil, err
	}
	t, err := to.ID()
	if err != nil {
		return nil, err
	}
	out := []wire.LinkFault{{From: f, To: t, Plane: plane, Cut: true}}
	arrow := "→"
	if both {
		arrow = "↔"
		out = append(out, wire.LinkFault{From: t, To: f, Plane: plane, Cut: true})
	}
	a.note("%s%s%s %s", from.Name, arrow, to.Name, plane)
	return out, nil
}

// planes to draw from; "" is all of them and counts twice.
var planes = []string{"", "", faults.Gossip, faults.Raft, faults.Parameters, faults.RPC}

func cutLink(ctx context.Context, a *attempt) error {
	plane := planes[a.random.IntN(len(planes))]
	from, to, err := a.link(ctx, plane)
	if err != nil {
		return err
	}
	links, err := a.cut(from, to, plane, a.random.IntN(2) == 0)
	if err != nil {
		return err
	}
	return a.faulty(ctx, a.Hold, links...)
}

// cutOneWay cuts what the learner sends to a voter, or what that one sends to
// it: to the leader every other time, if another node trains, because that one
// takes the commits.
func cutOneWay(ctx context.Context, a *attempt) error {
	from, err := a.learner(ctx)
	if err != nil {
		return err
	}
	to, err := a.leader(ctx)
	if err != nil {
		return err
	}
	if to == from || a.random.IntN(2) == 0 {
		to = a.pick(slices.DeleteFunc(a.rig.Nodes(cluster.RoleServer), func(n *Node) bool { return n == from }))
	}
	if a.random.IntN(2) == 0 {
		from, to = to, from
	}
	links, err := a.cut(from, to, "", false)
	if err != nil {
		return err
	}
	return a.faulty(ctx, a.Hold, links...)
}

// resetLinks breaks every connection of a node again and again.
func resetLinks(ctx context.Context, a *attempt) error {
	n := a.pick(a.rig.Nodes())
	id, err := n.ID()
	if err != nil {
		return err
	}
	a.note("%s", n.Name)
	var broken uint64
	reset := func() error {
		struck, err := a.rig.Inject(ctx, nil, []wire.LinkFault{{From: id}})
		broken += struck
		return err
	}
	err = a.strike(ctx, reset)
	for range 1 + a.random.IntN(8) {
		err = errors.Join(err, rest(ctx, time.Duration(a.random.Float64()*float64(a.Hold)/8)), reset())
	}
	a.to, a.missed = time.Now(), broken == 0
	a.note("%d connections", broken)
	return err
}

// slowLink makes a link as long and as narrow as one between continents.
func slowLink(ctx context.Context, a *attempt) error {
	from, to, err := a.link(ctx, "")
	if err != nil {
		return err
	}
	links, err := a.cut(from, to, "", true)
	if err != nil {
		return err
	}
	for i := range links {
		links[i].Cut, links[i].Drop = false, 0.05
		links[i].DelayMS, links[i].JitterMS, links[i].Rate = 40+80*a.random.Float64(), 40, 1<<20
	}
	a.note("%.0f ms", links[0].DelayMS)
	return a.faulty(ctx, a.Hold, links...)
}

// staleReplica cuts a follower off the log, and a while later a worker off
// everybody's parameters but that follower's, which are older than its own.
func staleReplica(ctx context.Context, a *attempt) error {
	lead, err := a.leader(ctx)
	if err != nil {
		return err
	}
	stale := a.pick(slices.DeleteFunc(a.rig.Nodes(cluster.RoleServer), func(n *Node) bool { return n == lead }))
	worker := a.pick(a.rig.Nodes(cluster.RoleWorker))
	links, err := a.cut(lead, stale, faults.Raft, false)
	if err != nil {
		return err
	}
	only := links
	for _, n := range a.rig.Nodes() {
		if n == stale || n == worker {
			continue
		}
		more, err := a.cut(n, worker, faults.Parameters, false)
		if err != nil {
			return err
		}
		links = append(links, more...)
	}
	err = a.strike(ctx, func() error {
		_, err := a.rig.Inject(ctx, only, nil)
		return err
	})
	if err == nil {
		err = rest(ctx, a.Hold/4) // the others go on
	}
	if err != nil {
		return err
	}
	// It takes a worker some seconds to give up on each of the others.
	return a.hurt(ctx, 2*a.Hold, links...)
}

// isolate describes nodes that nobody hears and that hear nobody.
func (a *attempt) isolate(nodes ...*Node) (links []wire.LinkFault, err error) {
	for _, n := range nodes {
		id, err := n.ID()
		if err != nil {
			return nil, err
		}
		a.note("%s isolated", n.Name)
		links = append(links, wire.LinkFault{From: id, Cut: true}, wire.LinkFault{To: id, Cut: true})
	}
	return links, nil
}

// some draws n servers.
func (a *attempt) some(n int) []*Node {
	servers := a.rig.Nodes(cluster.RoleServer)
	a.random.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
	return servers[:n]
}

func loseMinority(ctx context.Context, a *attempt) error { return a.lose(ctx, (a.Servers-1)/2) }

func loseQuorum(ctx context.Context, a *attempt) error { return a.lose(ctx, a.Servers/2+1) }

// lose takes n servers away, by killing or by isolating them.
func (a *attempt) lose(ctx context.Context, n int) error {
	if n == 0 {
		return fmt.Errorf("%w: one server has no minority", errSkip)
	}
	nodes := a.some(n)
	if a.random.IntN(2) == 0 {
		a.note("killed")
		return a.killed(ctx, a.Hold, nodes...)
	}
	links, err := a.isolate(nodes...)
	if err != nil {
		return err
	}
	return a.faulty(ctx, a.Hold, links...)
}
