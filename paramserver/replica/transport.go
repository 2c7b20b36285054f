package replica

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// rpcTimeout bounds dialling and every exchange with a peer; at 16 entries of
// 1 MB it asks for 5 MB/s. Snapshots get more, by their size.
const rpcTimeout = 3 * time.Second

// tcpLayer is a raft.StreamLayer over plain TCP. It knows the connections that
// it accepted: raft's transport leaves those to the peer to close.
type tcpLayer struct {
	net.Listener
	mu     sync.Mutex
	conns  map[*acceptedConn]struct{}
	closed bool
	wg     sync.WaitGroup // one per accepted connection, until its handler closes it
}

func listenTCP(addr string) (*tcpLayer, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &tcpLayer{Listener: l, conns: map[*acceptedConn]struct{}{}}, nil
}

// Dial implements raft.StreamLayer.
func (t *tcpLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(addr), timeout)
}

// Accept implements net.Listener.
func (t *tcpLayer) Accept() (net.Conn, error) {
	c, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	a := &acceptedConn{Conn: c, layer: t}
	t.conns[a] = struct{}{}
	t.wg.Add(1)
	return a, nil
}

// Close stops listening and cuts the accepted connections, which ends their handlers.
func (t *tcpLayer) Close() error {
	t.mu.Lock()
	t.closed = true
	conns := maps.Clone(t.conns)
	t.mu.Unlock()
	err := t.Listener.Close()
	for c := range conns {
		c.Conn.Close()
	}
	return err
}

// acceptedConn tells its layer when the handler has closed it.
type acceptedConn struct {
	net.Conn
	layer *tcpLayer
	once  sync.Once
}

// Close implements net.Conn.
func (c *acceptedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.layer.mu.Lock()
		delete(c.layer.conns, c)
		c.layer.mu.Unlock()
		c.layer.wg.Done()
	})
	return err
}

// resolver answers raft's address look-ups from the caller's membership.
type resolver func(id string) (string, bool)

// ServerAddr implements raft.ServerAddressProvider.
func (r resolver) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if addr, ok := r(string(id)); ok {
		return raft.ServerAddress(addr), nil
	}
	return "", fmt.Errorf("no address known for server %s", id)
}

// transport is raft's network transport that also remembers how far each
// follower's log reaches, which raft knows and does not tell.
type transport struct {
	*raft.NetworkTransport
	layer *tcpLayer

	mu      sync.Mutex
	reached map[raft.ServerID]uint64
	moved   chan struct{} // closed and replaced whenever reached changes
}

func newTransport(layer *tcpLayer, resolve func(string) (string, bool), logger hclog.Logger) *transport {
	cfg := &raft.NetworkTransportConfig{Stream: layer, MaxPool: 3, Timeout: rpcTimeout, Logger: logger}
	if resolve != nil {
		cfg.ServerAddressProvider = resolver(resolve)
	}
	return &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(cfg),
		layer:            layer,
		reached:          map[raft.ServerID]uint64{},
		moved:            make(chan struct{}),
	}
}

// EncodePeer implements raft.Transport. raft only asks for the local server,
// whose address needs no look-up.
func (t *transport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// AppendEntries implements raft.Transport. Heartbeats pass here too, several
// per election timeout, so the observation is always fresh.
func (t *transport) AppendEntries(id raft.ServerID, addr raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.NetworkTransport.AppendEntries(id, addr, req, resp)
	if err == nil && resp.Success {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.reached[id] != resp.LastLog {
			t.reached[id] = resp.LastLog
			close(t.moved)
			t.moved = make(chan struct{})
		}
	}
	return err
}

// progress returns the last log index that a follower reported, and a channel
// closed at the next report that differs.
func (t *transport) progress(id raft.ServerID) (uint64, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reached[id], t.moved
}

func (t *transport) forget(id raft.ServerID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.reached, id)
}

// shut closes every connection and waits for the handlers of the accepted ones.
func (t *transport) shut() error {
	t.CloseStreams()
	err := t.Close()
	t.layer.wg.Wait()
	return err
}
