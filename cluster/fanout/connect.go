package fanout

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// from takes what a candidate has until the job is over (nil), the candidate
// fails or is too slow, or a better one is there (errBetter).
func (f *feed) from(c Candidate) error {
	client, err := cluster.Dial(c.Addr, f.node.cfg.Dial)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(f.ctx)
	messages := make(chan *wire.FollowReply)
	broken := make(chan error, 1)
	var reading sync.WaitGroup
	reading.Go(func() { broken <- read(ctx, client, f.request(c), messages) })
	defer reading.Wait()
	defer client.Close()
	defer cancel()

	p := &parent{feed: f, Candidate: c, in: receiver{job: f.job}}
	p.in.have, _ = f.present()
	if c.local {
		p.in.open = func(file string, size int64) ([]byte, error) { return f.node.cfg.Cache.open(f.job, file, size) }
	}
	f.late.progress(time.Now())
	return p.watch(messages, broken)
}

// read hands on the messages of one stream until it breaks.
func read(ctx context.Context, c *cluster.Client, req *wire.FollowRequest, out chan<- *wire.FollowReply) error {
	stream, err := c.Follow(ctx, req)
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case out <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// parent is a candidate while it is followed.
type parent struct {
	*feed
	Candidate
	in    receiver
	lives bool // it has sent something
}

// watch waits for messages, and for the reasons to leave this parent.
func (p *parent) watch(messages <-chan *wire.FollowReply, broken <-chan error) error {
	began := time.Now()
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	// When to look for a better candidate, zero: no need. Once for sure: what has
	// changed since this one was chosen would go unseen.
	move := began.Add(settle)
	members := p.node.members()
	hints, hinted := p.node.cfg.Mesh.Hints()
	p.hint(hints)
	for {
		// Whatever is due first: the first message, the version that gossip
		// announced, or the look for a better parent.
		due := time.Hour
		if !p.lives {
			due = helloTimeout - time.Since(began)
		}
		if at, ok := p.late.deadline(); ok {
			due = min(due, time.Until(at))
		}
		if !move.IsZero() {
			due = min(due, time.Until(move))
		}
		timer.Reset(max(due, 0))

		select {
		case m := <-messages:
			if over, err := p.take(m); err != nil || over {
				return err
			}
			continue
		case err := <-broken:
			return fmt.Errorf("the stream broke: %w", err)
		case <-p.ctx.Done():
			return p.ctx.Err()
		case <-members:
			members = p.node.members()
			move = sooner(move, time.Now().Add(settle))
		case <-hinted:
			hints, hinted = p.node.cfg.Mesh.Hints()
			p.hint(hints)
			// The leader may be another by now, or the cache's holder.
			move = sooner(move, time.Now().Add(settle))
		case <-timer.C:
		}
		now := time.Now()
		if !p.lives && now.Sub(began) >= helloTimeout {
			return errSilent
		}
		if at, ok := p.late.deadline(); ok && !now.Before(at) {
			p.late.progress(now)
			return errSlow
		}
		if !move.IsZero() && !now.Before(move) {
			best := p.choose(now)
			if !best.waited && best.key() != p.key() {
				return errBetter
			}
			move = best.again
		}
	}
}

// sooner returns the earlier of two moments, of which the first may be zero.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (p *parent) hint(hints map[string]wire.Position) {
	if at, ok := hints[p.job]; ok {
		p.late.announced(at, time.Now())
	}
}

// take uses one message; over says that it was the last version of the job.
func (p *parent) take(m *wire.FollowReply) (over bool, err error) {
	p.lives = true
	s, err := p.in.take(m)
	if err != nil {
		return false, err
	}
	if m.Route != nil {
		group := p.node.group()
		switch {
		case p.local:
			p.reroute(m.Route) // this process stands where the holder does
		case slices.Contains(m.Route, group):
			return false, errLoop
		case len(m.Route) >= wire.MaxRoute:
			return false, errFar
		default:
			p.reroute(append(slices.Clone(m.Route), group))
		}
	}
	now := time.Now()
	if s == nil {
		if m.Part != nil {
			p.late.progress(now)
		}
		return false, nil
	}
	if p.adopt(s) {
		p.late.adopt(s.Position(), now)
	}
	newest, _ := p.present()
	return newest.Head.Final, nil
}
