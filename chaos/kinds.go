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
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/rng"
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
	{"cut-and-kill", cutAndKill},
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
		if err := clock.Rest(ctx, lookEvery); err != nil {
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
		err = errors.Join(err, clock.Rest(ctx, time.Duration(a.random.Float64()*float64(after))))
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
	return a.asleep(ctx, []*Node{n}, func() error { return clock.Rest(ctx, a.StopFor) })
}

// stopped lets nodes sleep for a while of at most Hold.
func (a *attempt) stopped(ctx context.Context, nodes ...*Node) error {
	for _, n := range nodes {
		a.note("%s", n.Name)
	}
	return a.asleep(ctx, nodes, func() error { return a.hold(ctx, a.Hold) })
}

// asleep strikes nodes with SIGSTOP, and wakes them once wait returns.
func (a *attempt) asleep(ctx context.Context, nodes []*Node, wait func() error) error {
	all := func(s syscall.Signal) (err error) {
		for _, n := range nodes {
			err = errors.Join(err, n.Signal(s))
		}
		return err
	}
	err := a.strike(ctx, func() error { return all(syscall.SIGSTOP) })
	if err == nil {
		err = wait()
	}
	a.to = time.Now()
	return errors.Join(err, all(syscall.SIGCONT))
}

func killAll(ctx context.Context, a *attempt) error {
	return a.killed(ctx, time.Second, a.rig.Nodes()...)
}

// some draws n servers.
func (a *attempt) some(n int) []*Node {
	servers := a.rig.Nodes(cluster.RoleServer)
	a.random.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
	return servers[:n]
}

func loseMinority(ctx context.Context, a *attempt) error { return a.lose(ctx, (a.Servers-1)/2) }

func loseQuorum(ctx context.Context, a *attempt) error { return a.lose(ctx, a.Servers/2+1) }

// lose takes n servers away, by killing, stopping or isolating them.
func (a *attempt) lose(ctx context.Context, n int) error {
	if n == 0 {
		return fmt.Errorf("%w: one server has no minority", errSkip)
	}
	nodes := a.some(n)
	switch a.random.IntN(3) {
	case 0:
		a.note("killed")
		return a.killed(ctx, a.Hold, nodes...)
	case 1:
		a.note("stopped")
		return a.stopped(ctx, nodes...)
	}
	links, err := a.isolate(nodes...)
	if err != nil {
		return err
	}
	return a.faulty(ctx, a.Hold, links...)
}
