package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Membership is what a node knows of the mesh; *cluster.Mesh is one.
type Membership interface {
	// Members lists every member known.
	Members() []cluster.Member
	// Events streams changes until ctx ends.
	Events(ctx context.Context) <-chan cluster.Member
	// Hints returns the newest version announced of each job, and a channel that
	// is closed when that changes.
	Hints() (map[string]wire.Position, <-chan struct{})
	// SetFollows tells the others what this node follows.
	SetFollows(jobs []string) error
}

var _ Membership = (*cluster.Mesh)(nil)

// Config is what a Node stands on.
type Config struct {
	ClusterID string
	Node      string // this node's UUID
	Addr      string // gRPC address at which the node is registered, as others reach it
	Mesh      Membership
	Dial      cluster.DialOptions
	// Leader returns the gRPC address of the replica to ask first, "" for none; nil
	// means none. The one that commits has a version before the others know of it.
	Leader func() string
	Cache  *Cache       // nil: the node shares no cache
	Logger *slog.Logger // nil for none
}

const (
	// maxChildren is what a node serves at a time and job: as many again as the
	// tree gives it, for nodes that see another tree.
	maxChildren = 2 * FanOut
	// linger is how long a job is followed on after its last reader left: slots
	// come and go.
	linger = 3 * time.Second
)

// Node follows jobs for the readers in its process, and hands their parameters
// on to other nodes. All readers of a job share one snapshot. It is safe for
// concurrent use.
type Node struct {
	cfg  Config
	log  *slog.Logger
	sent Egress

	ctx    context.Context
	cancel context.CancelFunc
	loops  sync.WaitGroup
	told   chan struct{} // wakes the loop that tells gossip what is followed

	mu      sync.Mutex
	closed  bool
	feeds   map[string]*feed // by job
	changed chan struct{}    // closed and renewed when the membership changes
}

var _ cluster.ParametersServer = (*Node)(nil)

// NewNode returns a Node that follows nothing yet. Close ends it.
func NewNode(cfg Config) *Node {
	n := &Node{
		cfg: cfg, log: cfg.Logger, feeds: map[string]*feed{},
		changed: make(chan struct{}), told: make(chan struct{}, 1),
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.loops.Go(n.watchMembers)
	n.loops.Go(n.tellFollows)
	return n
}

// Close ends every subscription and waits for what the node started.
func (n *Node) Close() {
	n.mu.Lock()
	n.closed = true
	for _, f := range n.feeds {
		if f.idle != nil {
			f.idle.Stop()
		}
	}
	n.mu.Unlock()
	n.cancel()
	n.loops.Wait()
}

// Egress counts the parameters that this node sent to followers.
func (n *Node) Egress() *Egress { return &n.sent }

// group is the node's place in the tree.
func (n *Node) group() string {
	if n.cfg.Cache != nil {
		return n.cfg.Cache.ID()
	}
	return n.cfg.Node
}

// Subscribe starts, or joins, the following of a job. The caller must Close the
// subscription.
func (n *Node) Subscribe(job string) (*Subscription, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("fanout: %w: closed", cluster.ErrUnavailable)
	}
	f := n.feeds[job]
	if f == nil {
		f = newFeed(n, job)
		n.feeds[job] = f
		n.loops.Go(f.run)
		n.tell()
	}
	f.readers++
	return &Subscription{feed: f}, nil
}

// leave ends the following of a job soon after its last reader.
func (n *Node) leave(f *feed) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f.readers--; f.readers > 0 || n.closed {
		return
	}
	f.idle = time.AfterFunc(linger, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if f.readers == 0 && n.feeds[f.job] == f {
			delete(n.feeds, f.job)
			f.stop()
			n.tell()
		}
	})
}

// drop forgets a feed that came to its end, so that the next reader starts anew.
func (n *Node) drop(f *feed) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.feeds[f.job] == f {
		delete(n.feeds, f.job)
		n.tell()
	}
}

// Follow serves a child in the tree, or a process that shares the cache.
func (n *Node) Follow(req *wire.FollowRequest, stream grpc.ServerStreamingServer[wire.FollowReply]) error {
	n.mu.Lock()
	f := n.feeds[req.Job]
	n.mu.Unlock()
	if f == nil {
		return fmt.Errorf("%w: this node does not follow job %q", cluster.ErrUnavailable, req.Job)
	}
	if req.Kind == wire.PeerLocal {
		if n.cfg.Cache == nil || req.Cache != n.cfg.Cache.ID() || !f.holds() {
			return fmt.Errorf("%w: this node does not hold job %q in that cache", cluster.ErrUnavailable, req.Job)
		}
		return Send(localSource{f}, &n.sent, req, stream)
	}
	if !f.adopts() {
		return fmt.Errorf("%w: this node has %d children of job %q already", cluster.ErrUnavailable, maxChildren, req.Job)
	}
	defer f.released()
	return Send(f, &n.sent, req, stream)
}

// members returns a channel that is closed when the membership changes.
func (n *Node) members() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

func (n *Node) watchMembers() {
	for range n.cfg.Mesh.Events(n.ctx) {
		n.mu.Lock()
		close(n.changed)
		n.changed = make(chan struct{})
		n.mu.Unlock()
	}
}

// tell wakes tellFollows.
func (n *Node) tell() {
	select {
	case n.told <- struct{}{}:
	default:
	}
}

// tellFollows keeps gossip up to date about what is followed here.
func (n *Node) tellFollows() {
	for {
		select {
		case <-n.told:
		case <-n.ctx.Done():
			return
		}
		n.mu.Lock()
		jobs := slices.Collect(maps.Keys(n.feeds))
		n.mu.Unlock()
		if err := n.cfg.Mesh.SetFollows(jobs); err != nil {
			n.log.Debug("what is followed here is not told", "error", err)
		}
	}
}

// Subscription is one reader's view of a job.
type Subscription struct {
	feed *feed
	once sync.Once
}

// Latest returns the newest snapshot, nil before the first one; its position
// never goes back. The channel is closed when there may be a newer one.
func (s *Subscription) Latest() (*Snapshot, <-chan struct{}) {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	return s.feed.newest, s.feed.changed
}

// Ended is closed when no newer version will come; Err says why.
func (s *Subscription) Ended() <-chan struct{} { return s.feed.ended }

// Err returns, once Ended is closed, nil for a job that is over,
// cluster.ErrNotFound for one that does not exist, and context.Canceled after
// the node's Close.
func (s *Subscription) Err() error {
	select {
	case <-s.feed.ended:
		return s.feed.err
	default:
		return nil
	}
}

// Close ends the subscription.
func (s *Subscription) Close() { s.once.Do(func() { s.feed.node.leave(s.feed) }) }

var errNothing = errors.New("no node to take parameters from")
