package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// helloTimeout bounds the handshake of a connection that was accepted.
	helloTimeout = 2 * time.Second
	// maxConns bounds the accepted connections: peers hold a handful each.
	maxConns = 512
	// maxTold refusals are logged in one refusalNotice.
	maxTold = 32
	// refusalNotice is how often the same refusal is logged.
	refusalNotice = 10 * time.Second
)

// ErrRefused says that a peer does not take this node for one of its cluster.
var ErrRefused = errors.New("refused by the raft peer")

// membership is what the handshake compares.
type membership struct {
	cluster    string // "" asks nothing
	generation uint64
	empty      bool // this node has no history yet, so it may learn any generation
	legacy     bool // the cluster has members of the release without a handshake
}

// tcpLayer is a raft.StreamLayer over TCP whose connections begin with a
// handshake. It knows the connections that it accepted: raft's transport leaves
// those to the peer to close.
type tcpLayer struct {
	net.Listener
	self   string // node ID
	belong func() membership
	dial   func(ctx context.Context, addr string) (net.Conn, error)
	log    *slog.Logger

	life context.Context // ends with Close; dialling ends with it
	end  context.CancelFunc

	mu     sync.Mutex
	conns  map[*acceptedConn]struct{}
	ids    map[string]string    // node IDs by the address they were resolved to
	told   map[string]time.Time // refusals logged lately
	closed bool
	wg     sync.WaitGroup // one per accepted connection, until its handler closes it
}

func listenTCP(addr, self string, belong func() membership, dial func(context.Context, string) (net.Conn, error), log *slog.Logger) (*tcpLayer, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if dial == nil {
		dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	t := &tcpLayer{
		Listener: l, self: self, belong: belong, dial: dial, log: log,
		conns: map[*acceptedConn]struct{}{}, ids: map[string]string{}, told: map[string]time.Time{},
	}
	t.life, t.end = context.WithCancel(context.Background())
	return t, nil
}

// Dial implements raft.StreamLayer. The timeout covers the handshake too.
func (t *tcpLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.life, timeout)
	defer cancel()
	c, err := t.dial(ctx, string(addr))
	if err != nil {
		return nil, err
	}
	err = t.greet(ctx, c, string(addr))
	if err == nil {
		return c, nil
	}
	err = errors.Join(err, c.Close())
	if t.belong().legacy && hungUp(err) {
		// What a peer without a handshake does with a hello. Once the cluster
		// has activated a level that such peers lack, nobody is asked again.
		return t.dial(ctx, string(addr))
	}
	return nil, fmt.Errorf("raft connection to %s: %w", addr, err)
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// greet says hello and waits for the answer.
func (t *tcpLayer) greet(ctx context.Context, c net.Conn, addr string) error {
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	m := t.belong()
	b, err := hello{cluster: m.cluster, generation: m.generation, from: t.self, to: t.expected(addr)}.encode()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(t.life, func() { c.Close() })
	defer stop()
	if _, err := c.Write(b); err != nil {
		return err
	}
	reason, err := readAnswer(c)
	if err != nil {
		return err
	}
	if reason != "" {
		t.tell("a raft peer refused this node", addr, reason)
		return fmt.Errorf("%w: %s", ErrRefused, reason)
	}
	return c.SetDeadline(time.Time{})
}

// judge decides whether a peer may talk to this node; "" is a yes.
func (t *tcpLayer) judge(h hello) string {
	m := t.belong()
	switch {
	case m.cluster == "":
		return ""
	case h.cluster != m.cluster:
		return fmt.Sprintf("node %s belongs to cluster %q, this node (%s) to %q", h.from, h.cluster, t.self, m.cluster)
	case h.from == t.self:
		return fmt.Sprintf("a node with this node's own ID %s: the data directory was copied; use each directory once", t.self)
	case h.to != "" && h.to != t.self:
		return fmt.Sprintf("the connection is meant for node %s, this is node %s", h.to, t.self)
	case h.generation < m.generation:
		return fmt.Sprintf("node %s is of generation %d, the cluster was restored since and is of generation %d; start the node with an empty directory and --join", h.from, h.generation, m.generation)
	case h.generation > m.generation && !m.empty:
		return fmt.Sprintf("this node (%s) is of generation %d, the cluster was restored since and is of generation %d; start this node with an empty directory and --join", t.self, m.generation, h.generation)
	}
	return ""
}

// expect remembers which node an address is of, for the hello.
func (t *tcpLayer) expect(addr, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ids) >= maxConns {
		clear(t.ids) // addresses of long ago; the present ones come back at once
	}
	t.ids[addr] = id
}

func (t *tcpLayer) expected(addr string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ids[addr]
}

// tell logs a refusal, the same one at most every refusalNotice, and no more than
// maxTold different ones in that time.
func (t *tcpLayer) tell(msg, peer, reason string) {
	now := time.Now()
	t.mu.Lock()
	maps.DeleteFunc(t.told, func(_ string, last time.Time) bool { return now.Sub(last) >= refusalNotice })
	_, lately := t.told[reason]
	if !lately && len(t.told) < maxTold {
		t.told[reason] = now
		defer t.log.Warn(msg, "peer", peer, "reason", reason)
	}
	t.mu.Unlock()
}

// Accept implements net.Listener. The handshake is not made here, where it would
// hold up the next peer, but with the first Read, which raft does in a goroutine
// of the connection's own.
func (t *tcpLayer) Accept() (net.Conn, error) {
	for {
		c, err := t.Listener.Accept()
		if err != nil {
			return nil, err
		}
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return nil, errors.Join(net.ErrClosed, c.Close())
		}
		if len(t.conns) >= maxConns {
			t.mu.Unlock()
			t.tell("too many raft connections", c.RemoteAddr().String(), fmt.Sprintf("%d are open", maxConns))
			c.Close()
			continue
		}
		a := &acceptedConn{Conn: c, layer: t}
		t.conns[a] = struct{}{}
		t.wg.Add(1)
		t.mu.Unlock()
		return a, nil
	}
}

// Close stops listening and cuts the accepted connections, which ends their handlers.
func (t *tcpLayer) Close() error {
	t.end()
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

// acceptedConn makes the acceptor's part of the handshake before anything else
// is read, and tells its layer when the handler has closed it.
type acceptedConn struct {
	net.Conn
	layer   *tcpLayer
	greeted bool   // by the handler's goroutine alone
	early   []byte // read from a peer without a handshake
	once    sync.Once
}

// Read implements net.Conn.
func (c *acceptedConn) Read(b []byte) (int, error) {
	if !c.greeted {
		if err := c.welcome(); err != nil {
			return 0, err
		}
		c.greeted = true
	}
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// welcome reads the hello and answers it. A peer that is refused is io.EOF for
// raft, which has nothing to add to what is logged here.
func (c *acceptedConn) welcome() error {
	if err := c.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	var head [helloHeader]byte
	n, err := c.Conn.Read(head[:])
	if err != nil {
		return io.EOF
	}
	if head[0] < 16 && c.layer.belong().legacy {
		c.early = head[:n:n]
		return c.SetDeadline(time.Time{})
	}
	reason := ""
	if _, err = io.ReadFull(c.Conn, head[n:]); err == nil {
		var h hello
		if h, err = readHello(head[:], c.Conn); err == nil {
			reason = c.layer.judge(h)
		}
	}
	if err != nil {
		reason = err.Error()
	}
	if reason != "" {
		c.layer.tell("a raft peer was refused", c.RemoteAddr().String(), reason)
	}
	if _, err := c.Conn.Write(encodeAnswer(reason)); err != nil || reason != "" {
		return io.EOF
	}
	return c.SetDeadline(time.Time{})
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
