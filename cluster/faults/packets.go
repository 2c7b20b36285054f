package faults

import (
	"context"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxLate bounds the datagrams that are under way at once; more are lost, as in
// a full queue of a router.
const maxLate = 1024

// Transport puts the network under a gossip transport, for
// cluster.MeshConfig.Transport.
func (n *Network) Transport(inner memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
	return &packets{inner, n}
}

type packets struct {
	memberlist.NodeAwareTransport
	n *Network
}

// WriteTo implements memberlist.Transport.
func (t *packets) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport: the datagram is lost,
// late, or sent.
func (t *packets) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	to := a.Name
	if to == "" {
		to = t.n.name(a.Addr)
	}
	v, _ := t.n.table.judge(Gossip, t.n.self, to)
	if t.n.table.lost(v) {
		t.n.table.struck.Add(1)
		return time.Now(), nil
	}
	lag := t.n.table.lag(v)
	if lag <= 0 {
		return t.NodeAwareTransport.WriteToAddress(b, a)
	}
	t.n.table.struck.Add(1)
	t.n.later(lag, append([]byte(nil), b...), func(b []byte) {
		t.NodeAwareTransport.WriteToAddress(b, a) // a datagram promises nothing
	})
	return time.Now(), nil
}

// later sends a datagram after a while, unless the network closes before.
func (n *Network) later(lag time.Duration, b []byte, send func([]byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isClosed() || n.late >= maxLate {
		return
	}
	n.late++
	n.loops.Go(func() {
		timer := time.NewTimer(lag)
		defer timer.Stop()
		select {
		case <-timer.C:
			send(b)
		case <-n.closed:
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.late--
	})
}

// DialTimeout implements memberlist.Transport.
func (t *packets) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *packets) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.n.dial(ctx, Gossip, t.n.peer(a.Addr, a.Name), func(context.Context) (net.Conn, error) {
		return t.NodeAwareTransport.DialAddressTimeout(a, timeout)
	})
}
