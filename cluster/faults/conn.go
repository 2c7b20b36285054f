package faults

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// linger is how long a closed connection still tries to deliver what was
// written before, behind a delay or a cut.
const linger = 30 * time.Second

// conn is a connection that this node dialled, with what the table does to it:
// writes go through out, reads come through in, a pump moves each.
type conn struct {
	net.Conn
	n     *Network
	plane string
	peer  func() string // node ID, "" while unknown

	in, out         *half
	readBy, writeBy deadline
	closing         sync.Once
	gone            chan struct{} // closed when the pumps have ended
}

func (n *Network) wrap(raw net.Conn, plane string, peer func() string) (net.Conn, error) {
	c := &conn{Conn: raw, n: n, plane: plane, peer: peer, gone: make(chan struct{})}
	c.out = newHalf(n.table, func() (verdict, <-chan struct{}) { return n.table.judge(plane, n.self, peer()) })
	c.in = newHalf(n.table, func() (verdict, <-chan struct{}) { return n.table.judge(plane, peer(), n.self) })
	if !n.adopt(c) {
		raw.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// run pumps until both directions have ended.
func (c *conn) run() {
	defer close(c.gone)
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, maxChunk)
		for {
			n, err := c.Conn.Read(buf)
			if n > 0 {
				if _, perr := c.in.put(buf[:n], nil); perr != nil {
					return // nobody reads any more
				}
			}
			if err != nil {
				c.in.finish(err)
				return
			}
		}
	})
	buf := make([]byte, maxChunk)
	for {
		n, err := c.out.get(buf, nil)
		if err != nil {
			break
		}
		if _, err := c.Conn.Write(buf[:n]); err != nil {
			c.out.fail(err)
			break
		}
	}
	if !c.closed() { // the peer broke it: what it sent before may still be read
		reader.Wait()
	}
	c.Conn.Close()
	reader.Wait()
}

func (c *conn) closed() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.broken != nil
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) { return c.in.get(p, &c.readBy) }

// Write implements net.Conn. Like a socket's buffer it takes bytes before they
// are on their way, so an error shows in a later call.
func (c *conn) Write(p []byte) (int, error) { return c.out.put(p, &c.writeBy) }

// Close implements net.Conn. What was written before is delivered in the
// background, as a kernel does.
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.in.fail(net.ErrClosed)
		c.out.finish(io.EOF)
		c.n.loops.Go(func() {
			t := time.NewTimer(linger)
			defer t.Stop()
			select {
			case <-c.gone:
			case <-t.C:
				c.tear(net.ErrClosed)
			}
		})
	})
	return nil
}

// tear breaks both directions at once.
func (c *conn) tear(err error) {
	c.in.fail(err)
	c.out.fail(err)
	if t, ok := c.Conn.(*net.TCPConn); ok {
		t.SetLinger(0) // the peer sees a reset
	}
	c.Conn.Close()
}

// reset does what a peer's RST does.
func (c *conn) reset() { c.tear(syscall.ECONNRESET) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.readBy.set(t)
	c.writeBy.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return nil
}
