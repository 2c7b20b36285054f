package faults

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Network is one node's view of the links to others. It is safe for concurrent
// use. The Dialer of a nil *Network is nil, which means plain TCP.
type Network struct {
	self  string
	table *table

	mu     sync.Mutex
	names  func(addr string) string
	conns  map[*conn]struct{}
	late   int // datagrams on their way
	closed chan struct{}
	loops  sync.WaitGroup
}

// New returns the network of a node, without faults yet.
func New(self string) *Network {
	return &Network{self: self, table: newTable(), conns: map[*conn]struct{}{}, closed: make(chan struct{})}
}

// Names says how to find the node behind an address, "" for an unknown one. Until
// then, and for unknown ones, only faults of any node apply.
func (n *Network) Names(resolve func(addr string) string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names = resolve
}

func (n *Network) name(addr string) string {
	n.mu.Lock()
	resolve := n.names
	n.mu.Unlock()
	if resolve == nil {
		return ""
	}
	return resolve(addr)
}

// peer returns a look-up of the node at addr that remembers its first success:
// an address belongs to one node for as long as a connection to it lasts.
func (n *Network) peer(addr, known string) func() string {
	var mu sync.Mutex
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		if known == "" {
			known = n.name(addr)
		}
		return known
	}
}

// Set replaces the faults in force. seed fixes jitter and losses. What is wrong
// with a fault is a fielderr.Error, and nothing changes then.
func (n *Network) Set(faults []wire.LinkFault, seed uint64) error { return n.table.set(faults, seed) }

// Reset breaks the open connections that match one of the links, whichever end
// is which, and returns how many.
func (n *Network) Reset(links []wire.LinkFault) int {
	broken := 0
	for _, c := range n.open() {
		for i := range links {
			if peer := c.peer(); matches(&links[i], c.plane, n.self, peer) || matches(&links[i], c.plane, peer, n.self) {
				c.reset()
				broken++
				break
			}
		}
	}
	return broken
}

func (n *Network) open() []*conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*conn, 0, len(n.conns))
	for c := range n.conns {
		out = append(out, c)
	}
	return out
}

// Held returns the connections that this node dialled and the bytes that wait
// in them.
func (n *Network) Held() (connections, bytes int) {
	all := n.open()
	for _, c := range all {
		bytes += c.in.waiting() + c.out.waiting()
	}
	return len(all), bytes
}

// adopt starts the pumps of a connection, unless the network is closed.
func (n *Network) adopt(c *conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isClosed() {
		return false
	}
	n.conns[c] = struct{}{}
	n.loops.Go(func() {
		c.run()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.conns, c)
	})
	return true
}

func (n *Network) isClosed() bool {
	select {
	case <-n.closed:
		return true
	default:
		return false
	}
}

// Dialer returns a function that dials over this network, for
// cluster.DialOptions and replica.Config; nil for a nil Network.
func (n *Network) Dialer(plane string) func(ctx context.Context, addr string) (net.Conn, error) {
	if n == nil {
		return nil
	}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		return n.dial(ctx, plane, n.peer(addr, ""), func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		})
	}
}

// dial opens a connection once the handshake could pass in both directions.
func (n *Network) dial(ctx context.Context, plane string, peer func() string, connect func(context.Context) (net.Conn, error)) (net.Conn, error) {
	for {
		there, changed := n.table.judge(plane, n.self, peer())
		back, _ := n.table.judge(plane, peer(), n.self)
		if there.cut || back.cut {
			n.table.struck.Add(1)
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("dial over a link that is cut: %w", ctx.Err())
			case <-n.closed:
				return nil, net.ErrClosed
			}
		}
		if lag := n.table.lag(there) + n.table.lag(back); lag > 0 {
			n.table.struck.Add(1)
			select {
			case <-time.After(lag):
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-n.closed:
				return nil, net.ErrClosed
			}
		}
		raw, err := connect(ctx)
		if err != nil {
			return nil, err
		}
		return n.wrap(raw, plane, peer)
	}
}

// Close breaks every connection and waits for everything this network started.
func (n *Network) Close() {
	if n == nil {
		return
	}
	n.mu.Lock()
	if !n.isClosed() {
		close(n.closed)
	}
	n.mu.Unlock()
	for _, c := range n.open() {
		c.tear(net.ErrClosed)
	}
	n.loops.Wait()
}

// Members resolves addresses, of any plane, through a node's gossip.
func Members(m *cluster.Mesh) func(addr string) string {
	return func(addr string) string {
		for _, p := range m.Members() {
			if addr != "" && (addr == p.GossipAddr || addr == p.RaftAddr || addr == p.GRPCAddr) {
				return p.ID
			}
		}
		return ""
	}
}
