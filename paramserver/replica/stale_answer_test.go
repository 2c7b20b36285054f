package replica

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
)

// slowReplies is a network whose answers to one node can be kept back.
type slowReplies struct {
	mu    sync.Mutex
	until chan struct{} // closed: answers pass; nil: so they do
	kept  chan struct{} // gets a token for each answer that waits
}

func (s *slowReplies) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = make(chan struct{})
}

func (s *slowReplies) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until != nil {
		close(s.until)
		s.until = nil
	}
}

func (s *slowReplies) dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &slowConn{c, s}, nil
}

type slowConn struct {
	net.Conn
	of *slowReplies
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.of.mu.Lock()
	until := c.of.until
	c.of.mu.Unlock()
	if until != nil {
		select {
		case c.of.kept <- struct{}{}:
		default:
		}
		<-until
	}
	return n, err
}

// TestAnAnswerFromBeforeConfirmsNoRead: the followers have answered a heartbeat, the
// answer is on its way; they elect another leader, which answers a command; then the old
// one, which has heard nothing of it, is asked for a read, and the old answer arrives.
func TestAnAnswerFromBeforeConfirmsNoRead(t *testing.T) {
	var cut atomic.Bool
	replies := &slowReplies{kept: make(chan struct{}, 1)}
	t.Cleanup(replies.release)
	p := voters(t, found, func(p *peers, id string) Config {
		if id == "a" {
			return Config{Dial: replies.dial}
		}
		return Config{Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			if old, _ := p.resolve("a"); cut.Load() && addr == old {
				return nil, errors.New("cut off")
			}
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}}
	})
	old, next, other := p.all[0], p.all[1], p.all[2]
	applyAnywhere(t, p.all, commit(0, 4000))
	lead(t, old)

	cut.Store(true)
	replies.hold()
	select {
	case <-replies.kept:
	case <-testContext(t).Done():
		t.Fatal("no answer on its way")
	}
	head := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("c"), Addr: []byte(other.Addr())}
	if err := other.trans.TimeoutNow("b", raft.ServerAddress(next.Addr()), &raft.TimeoutNowRequest{RPCHeader: head}, &raft.TimeoutNowResponse{}); err != nil {
		t.Fatal(err)
	}
	applyAnywhere(t, []*Replica{next, other}, commit(1, 4000))

	var asked, answered sync.WaitGroup
	for range 20 { // one of them is likely to ask before the answer is there
		asked.Add(1)
		answered.Go(func() {
			asked.Done()
			if err := old.Linearize(testContext(t)); err == nil && version(old) < 2 {
				t.Errorf("read version %d after 2 was answered", version(old))
			}
		})
	}
	asked.Wait()
	replies.release()
	answered.Wait()
}
