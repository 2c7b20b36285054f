package chaos

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/faults"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// The kinds that break links and no process.

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
		err = errors.Join(err, clock.Rest(ctx, time.Duration(a.random.Float64()*float64(a.Hold)/8)), reset())
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
		err = clock.Rest(ctx, a.Hold/4) // the others go on
	}
	if err != nil {
		return err
	}
	// It takes a worker some seconds to give up on each of the others.
	return a.hurt(ctx, 2*a.Hold, links...)
}

// cutAndKill kills a node while a link is cut, and lets it come back before or
// after that link is whole. A process that starts knows of no cut: what it dials
// gets through, and what the others dial does not.
func cutAndKill(ctx context.Context, a *attempt) error {
	from, to, err := a.link(ctx, "")
	if err != nil {
		return err
	}
	links, err := a.cut(from, to, "", a.random.IntN(2) == 0)
	if err != nil {
		return err
	}
	victim := a.pick(a.rig.Nodes())
	a.note("kill %s", victim.Name)
	err = a.strike(ctx, func() error {
		_, err := a.rig.Inject(ctx, links, nil)
		return err
	})
	if err == nil {
		err = errors.Join(a.hold(ctx, a.Hold/2), victim.Kill(), a.hold(ctx, a.Hold/2))
	}
	back := func() error { return a.rig.Restart(victim) }
	whole := func() error {
		_, err := a.rig.Inject(context.WithoutCancel(ctx), nil, nil)
		return err
	}
	if victim.Running() {
		return errors.Join(err, whole())
	}
	if a.random.IntN(2) == 0 {
		a.note("after the cut")
		err = errors.Join(err, whole(), clock.Rest(ctx, a.Hold/4), back())
	} else {
		a.note("during the cut")
		err = errors.Join(err, back(), a.hold(ctx, a.Hold/2), whole())
	}
	a.to = time.Now()
	return err
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
