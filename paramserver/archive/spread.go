package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

const (
	// putPatience bounds how long a node may take for a segment, besides a second
	// for every putRate bytes.
	putPatience = 2 * time.Second
	putRate     = 8 << 20
	// hedgeAfter is when another node is asked too.
	hedgeAfter = 300 * time.Millisecond
	// shun is how long a node that failed is asked last.
	shun = 10 * time.Second
	// againAfter is the pause before all are asked again, noticeEvery how often
	// that is told.
	againAfter  = 100 * time.Millisecond
	noticeEvery = 10 * time.Second
)

func patience(size int64) time.Duration {
	return putPatience + time.Duration(size)*time.Second/putRate
}

// peers are the other servers that are alive, in the order in
// which they are asked about this one: those that failed lately last, else by a
// digest, so that the copies spread.
func (n *Node) peers(id string) []cluster.Member {
	now := n.Clock.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	type ranked struct {
		cluster.Member
		slow bool
		rank uint64
	}
	var out []ranked
	for _, m := range n.Mesh.Members() {
		if m.ID == n.Node || m.State != cluster.Alive || m.GRPCAddr == "" || m.Role != cluster.RoleServer {
			continue
		}
		h := fnv.New64a()
		h.Write([]byte(id + "/" + m.ID))
		out = append(out, ranked{m, now.Before(n.slow[m.ID]), h.Sum64()})
	}
	slices.SortFunc(out, func(a, b ranked) int {
		if a.slow != b.slow {
			if a.slow {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.rank, b.rank)
	})
	members := make([]cluster.Member, len(out))
	for i := range out {
		members[i] = out[i].Member
	}
	return members
}

func (n *Node) failed(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slow[id] = n.Clock.Now().Add(shun)
}

// Spread makes a segment durable: in the shared bucket, or on as many nodes as
// copies says, of which this one is the first unless it is a guest. It goes on until it is, copies
// fails, or ctx ends. g.Nodes says then who holds it.
func (n *Node) Spread(ctx context.Context, job string, g *fsm.Segment, data []byte, copies func() (int, error)) error {
	if g.Bytes == 0 {
		return nil // nothing to hold
	}
	held := map[string]bool{}
	began := n.Clock.Now()
	notice := began.Add(noticeEvery / 5)
	for {
		want, err := copies()
		if err != nil {
			return fmt.Errorf("archive segment %s of job %s is held by %d nodes: %w", g.ID, job, len(held), err)
		}
		err = n.spread(ctx, job, g, data, want, held)
		if err == nil {
			g.Nodes = nil
			if !n.Store.Shared() {
				for id := range held {
					g.Nodes = append(g.Nodes, id)
				}
				slices.Sort(g.Nodes)
			}
			return nil
		}
		if ctx.Err() == nil && n.Clock.Now().After(notice) {
			n.Logger.Warn("a commit waits for its archive segment to be held by enough nodes", "job", job, "segment", g.ID,
				"held", len(held), "wanted", want, "waiting", n.Clock.Now().Sub(began).Round(time.Second), "error", err)
			notice = n.Clock.Now().Add(noticeEvery)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("archive segment %s of job %s is held by %d of %d nodes: %w", g.ID, job, len(held), want, errors.Join(ctx.Err(), err))
		case <-time.After(againAfter):
		}
	}
}

// spread asks each node that does not hold the segment once, no more at a time
// than are wanted unless those are slow.
func (n *Node) spread(ctx context.Context, job string, g *fsm.Segment, data []byte, want int, held map[string]bool) error {
	type answer struct {
		id  string
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, patience(int64(len(data))))
	defer cancel()
	var todo []cluster.Member
	if n.Store.Shared() {
		want = 1
	} else {
		todo = slices.DeleteFunc(n.peers(g.ID), func(m cluster.Member) bool { return held[m.ID] })
	}
	if !held[n.Node] && (!n.Guest || n.Store.Shared()) {
		todo = slices.Insert(todo, 0, cluster.Member{ID: n.Node})
	}
	answers := make(chan answer, len(todo))
	asked := map[string]bool{} // and not answered
	ask := func() bool {
		if len(todo) == 0 {
			return false
		}
		m := todo[0]
		todo = todo[1:]
		asked[m.ID] = true
		go func() { answers <- answer{m.ID, n.give(ctx, m, job, g, data)} }() // ends with ctx; its answer is waited for below
		return true
	}
	for len(asked) < want-len(held) && ask() {
	}
	hedge := time.NewTicker(n.hedge)
	defer hedge.Stop()
	errs := []error{fmt.Errorf("%d nodes are alive that can hold it", len(asked)+len(todo)+len(held))}
	for len(asked) > 0 {
		if len(held) >= want {
			cancel() // hedged ones are not needed
		}
		select {
		case a := <-answers:
			delete(asked, a.id)
			if a.err == nil {
				held[a.id] = true
				break
			}
			if len(held) < want {
				errs = append(errs, fmt.Errorf("node %s: %w", a.id, a.err))
				n.failed(a.id)
				ask()
			}
		case <-hedge.C:
			if len(held) >= want {
				break
			}
			for id := range asked {
				n.failed(id) // the next segment is not to wait for it
			}
			ask()
		}
	}
	if len(held) < want {
		return errors.Join(errs...)
	}
	return nil
}

// give puts a segment on one node.
func (n *Node) give(ctx context.Context, m cluster.Member, job string, g *fsm.Segment, data []byte) error {
	if m.ID == n.Node {
		return n.Store.Put(ctx, job, g.ID, data)
	}
	c, err := n.clients.Client(m.GRPCAddr)
	if err != nil {
		return err
	}
	return c.PutSegment(ctx, n.Mesh.ClusterID(), SegmentName(job, g), data)
}

// Fetch returns a listed segment from wherever it is held: here, on the nodes
// that held it when it was listed, or on any other. One with other bytes than
// were promised counts as not held.
func (n *Node) Fetch(ctx context.Context, job string, g *fsm.Segment) ([]byte, error) {
	name := SegmentName(job, g)
	data, err := n.Store.Get(ctx, name)
	if err == nil || n.Store.Shared() {
		return data, err
	}
	if errors.Is(err, ErrSegment) {
		n.Logger.Error("an archive segment is damaged here; another copy is looked for", "job", job, "segment", g.ID, "error", err)
	}
	errs := []error{err}
	for _, m := range n.preferring(g.Nodes, n.peers(g.ID)) {
		if data, err = n.fetchFrom(ctx, m, name); err == nil {
			return data, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !errors.Is(err, cluster.ErrNotFound) {
			n.failed(m.ID)
		}
		errs = append(errs, fmt.Errorf("node %s: %w", m.ID, err))
	}
	return nil, fmt.Errorf("%w: segment %s of job %s: %w", cluster.ErrUnavailable, g.ID, job, errors.Join(errs...))
}

// Fetcher is Fetch of one job.
func (n *Node) Fetcher(job string) func(context.Context, *fsm.Segment) ([]byte, error) {
	return func(ctx context.Context, g *fsm.Segment) ([]byte, error) { return n.Fetch(ctx, job, g) }
}

// preferring moves the nodes that are named to the front, but those that failed
// lately stay at the end: another that has no copy says so at once.
func (n *Node) preferring(named []string, peers []cluster.Member) []cluster.Member {
	now := n.Clock.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	rank := func(m cluster.Member) int {
		switch {
		case now.Before(n.slow[m.ID]):
			return 2
		case slices.Contains(named, m.ID):
			return 0
		}
		return 1
	}
	slices.SortStableFunc(peers, func(a, b cluster.Member) int { return cmp.Compare(rank(a), rank(b)) })
	return peers
}

func (n *Node) fetchFrom(ctx context.Context, m cluster.Member, name *wire.SegmentName) ([]byte, error) {
	c, err := n.clients.Client(m.GRPCAddr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience(name.Size))
	defer cancel()
	return c.GetSegment(ctx, &wire.GetSegmentRequest{ClusterID: n.Mesh.ClusterID(), Segment: *name})
}
