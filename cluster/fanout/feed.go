package fanout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/filelock"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// feed follows one job for a process: run takes versions from the best candidate
// there is, readers and children look at the newest.
type feed struct {
	node *Node
	job  string

	ctx     context.Context
	stop    context.CancelFunc
	ended   chan struct{} // closed when no newer version will come,
	err     error         // for this reason
	readers int           // under node.mu
	idle    *time.Timer   // under node.mu

	mu       sync.Mutex
	newest   *Snapshot
	route    []string      // from the replica to this group
	changed  chan struct{} // closed and renewed when newest or route changes
	children int
	holding  *holding // nil while another process of this cache follows for us

	// Only run's goroutine:
	late    lateness
	skipped map[string]skip // by candidate
}

func newFeed(n *Node, job string) *feed {
	f := &feed{node: n, job: job, ended: make(chan struct{}), changed: make(chan struct{}), skipped: map[string]skip{}}
	f.ctx, f.stop = context.WithCancel(n.ctx)
	return f
}

const (
	// skipFor is how long a candidate is passed over that sent wrong bytes or is slow.
	skipFor = 30 * time.Second
	// skipFirst is how long one is that refused or did not answer: views of the tree
	// may differ for a moment, as when many nodes start at once. It doubles, at each
	// time in a row, up to skipFor.
	skipFirst = time.Second
	// helloTimeout bounds the wait for a node's first message, which it sends at once.
	helloTimeout = time.Second
	// settle spares a node the moves of a tree that is being rebuilt.
	settle = 150 * time.Millisecond
	// After a round in which nobody served, the next one waits.
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond

	successionRounds = 20
	successionPause  = 10 * time.Millisecond
)

var (
	errBetter = errors.New("a better parent is there")
	errSilent = errors.New("it did not answer")
	errSlow   = errors.New("it is behind what gossip announced")
	errLoop   = errors.New("it has the parameters from here")
	errFar    = errors.New("it is too far from a replica")
)

// run follows the job until it is over or nobody wants it.
func (f *feed) run() {
	defer f.stop()
	f.err = f.follow()
	close(f.ended)
	if f.err == nil {
		<-f.ctx.Done() // a job that is over is still read and handed on
	} else {
		f.node.drop(f)
		f.stop()
	}
	f.mu.Lock()
	held := f.holding
	f.holding = nil
	f.bump()
	f.mu.Unlock()
	if held != nil {
		if err := held.release(); err != nil {
			f.node.log.Warn("parameter cache not tidied", "job", f.job, "error", err)
		}
	}
}

// follow moves from candidate to candidate; nil once the job is over.
func (f *feed) follow() error {
	pause := firstPause
	for {
		choice := f.choose(time.Now())
		c, waited := choice.Candidate, choice.waited
		err := errNothing
		if c.Addr != "" {
			before, _ := f.present()
			err = f.from(c)
			if after, _ := f.present(); after != before {
				pause, waited = firstPause, false
				delete(f.skipped, c.key())
			}
		}
		switch {
		case err == nil:
			return nil
		case f.ctx.Err() != nil:
			return context.Canceled
		case errors.Is(err, errBetter):
			continue
		case c.Replica && (errors.Is(err, cluster.ErrNotFound) || errors.Is(err, cluster.ErrForeignCluster)):
			return err
		}
		f.node.log.Debug("parent skipped", "job", f.job, "node", c.Node, "addr", c.Addr, "error", err)
		f.skip(c, err, time.Now())
		if c.local {
			f.succession(c)
			continue
		}
		if c.Addr == "" || waited { // everybody has failed lately
			if !f.sleep(pause) {
				return context.Canceled
			}
			pause = min(2*pause, lastPause)
		}
	}
}

func (c Candidate) key() string {
	if c.local {
		return "cache " + c.Addr
	}
	return c.Node + " " + c.Addr
}

// skip is a candidate that is passed over.
type skip struct {
	until   time.Time
	strikes int // refusals in a row
}

func (f *feed) skip(c Candidate, err error, now time.Time) {
	s := f.skipped[c.key()]
	s.strikes++
	s.until = now.Add(min(skipFirst<<min(s.strikes-1, 10), skipFor))
	if errors.Is(err, errSlow) || errors.Is(err, ErrWrongBytes) || errors.Is(err, wire.ErrFrame) || errors.Is(err, wire.ErrTooLarge) {
		s.until = now.Add(skipFor)
	}
	f.skipped[c.key()] = s
	for key, old := range f.skipped { // of nodes that may be long gone
		if now.Sub(old.until) > skipFor {
			delete(f.skipped, key)
		}
	}
}

// choice is the candidate to follow.
type choice struct {
	Candidate           // Addr is "" if nobody is known
	waited    bool      // everybody has failed lately; it is the first that may have recovered
	again     time.Time // when a better one may be tried again, zero if there is none
}

// choose returns the best candidate that is not skipped.
func (f *feed) choose(now time.Time) (best choice) {
	var all []Candidate
	if c, ok := f.localHolder(); ok {
		all = append(all, c)
	}
	leader := ""
	if f.node.cfg.Leader != nil {
		leader = f.node.cfg.Leader()
	}
	all = append(all, Plan(f.job, f.node.group(), leader, f.node.cfg.Mesh.Members())...)
	for _, c := range all {
		if c.Node == f.node.cfg.Node {
			continue
		}
		until := f.skipped[c.key()].until
		if !now.Before(until) {
			return choice{c, false, best.again}
		}
		if best.Addr == "" || until.Before(best.again) {
			best = choice{c, true, until}
		}
	}
	best.waited = true
	return best
}

// localHolder makes this process the holder of the job in its cache folder, or
// returns the process that is.
func (f *feed) localHolder() (Candidate, bool) {
	cache := f.node.cfg.Cache
	if cache == nil || f.holds() {
		return Candidate{}, false
	}
	h, err := cache.hold(f.job, f.node.cfg.Addr)
	if err == nil {
		f.mu.Lock()
		f.holding = h
		f.bump()
		f.mu.Unlock()
		f.node.log.Debug("holds the job in the cache", "job", f.job)
		return Candidate{}, false
	}
	if !errors.Is(err, filelock.ErrHeld) {
		f.node.log.Warn("parameter cache not usable", "job", f.job, "error", err)
		return Candidate{}, false
	}
	addr, err := cache.holder(f.job)
	if err != nil {
		f.node.log.Warn("parameter cache not usable", "job", f.job, "error", err)
	}
	return Candidate{Addr: addr, local: true}, addr != ""
}

// succession waits, after the holder of the cache was lost, until this process
// or another one has taken its place: all of them would ask the parent
// otherwise. A holder that hangs keeps its lock; then nobody does.
func (f *feed) succession(lost Candidate) {
	for range successionRounds {
		c, other := f.localHolder()
		if f.holds() || other && c.Addr != lost.Addr || !f.sleep(successionPause) {
			return
		}
	}
}

func (f *feed) sleep(d time.Duration) bool {
	_, hinted := f.node.cfg.Mesh.Hints()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-hinted:
	case <-f.node.members():
	case <-f.ctx.Done():
		return false
	}
	return true
}

// present returns the newest snapshot and the route on which it came.
func (f *feed) present() (*Snapshot, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newest, f.route
}

// adopt makes a snapshot the newest, unless that would go back.
func (f *feed) adopt(s *Snapshot) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.newest
	if old != nil && !old.Position().Before(s.Position()) && !(s.Head.Final && !old.Head.Final && old.Position() == s.Position()) {
		return false
	}
	f.newest = s
	f.bump()
	return true
}

// reroute notes on which way parameters come here.
func (f *feed) reroute(route []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.route, route) {
		f.route = route
		f.bump()
	}
}

// bump wakes readers and children; f.mu is held.
func (f *feed) bump() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feed) holds() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.holding != nil
}

// adopts takes another child, if there is room.
func (f *feed) adopts() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.children >= maxChildren {
		return false
	}
	f.children++
	return true
}

func (f *feed) released() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.children--
}

// Offer implements Source for children in the tree.
func (f *feed) Offer(context.Context, string) (Offer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return Offer{}, fmt.Errorf("%w: this node follows job %q no longer", cluster.ErrUnavailable, f.job)
	}
	return Offer{Snapshot: f.newest, Route: f.route, Changed: f.changed}, nil
}

// localSource is the Source for processes that share the cache.
type localSource struct{ *feed }

// Offer implements Source.
func (l localSource) Offer(ctx context.Context, job string) (Offer, error) {
	o, err := l.feed.Offer(ctx, job)
	if err != nil || o.Snapshot == nil || o.Snapshot.Head.Size == 0 {
		return o, err
	}
	l.mu.Lock()
	held := l.holding
	l.mu.Unlock()
	if held == nil {
		return Offer{}, fmt.Errorf("%w: this node does not hold job %q in the cache", cluster.ErrUnavailable, job)
	}
	o.File = func() (string, error) { return held.write(o.Snapshot) }
	return o, nil
}

// request asks a candidate for what comes after the newest snapshot.
func (f *feed) request(c Candidate) *wire.FollowRequest {
	req := &wire.FollowRequest{ClusterID: f.node.cfg.ClusterID, Job: f.job, Any: true, Kind: wire.PeerWorker, Group: f.node.group()}
	if c.local {
		req.Kind, req.Group, req.Cache = wire.PeerLocal, "", f.node.cfg.Cache.ID()
	}
	if s, _ := f.present(); s != nil {
		req.After, req.Any, req.Have = s.Position(), false, s.Head.Hash
	}
	return req
}
