// Package freeport finds ports for processes that are killed and started again
// at the same addresses.
package freeport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
)

const (
	lowest = 10000
	// ephemeral is where the kernel's ports begin if it does not say so.
	ephemeral = 32768
)

// ports hands out the ports of [low, high) in a ring: none comes twice before
// all others have been looked at.
type ports struct {
	low, high int

	mu   sync.Mutex
	next int
}

// shared are the ports of this process. They come from below those that the
// kernel gives to whoever dials or asks for any: one of these would be taken, at
// times, while the process that listens there is down.
var shared = sync.OnceValue(func() *ports {
	high := ephemeral
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		fmt.Sscan(string(text), &high)
	}
	if high < lowest+1000 { // the kernel leaves too few
		high = 1 << 16
	}
	// Other processes draw from the same ports: each begins elsewhere.
	return &ports{low: lowest, high: high, next: lowest + os.Getpid()*97%(high-lowest)}
})

// ErrNone says that no port is free.
var ErrNone = errors.New("no port is free for both TCP and UDP")

// Find returns a port of host that is free for TCP and UDP. This process finds
// it again only after some ten thousand others.
func Find(host string) (int, error) { return shared().find(host) }

func (p *ports) find(host string) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range p.high - p.low {
		port := p.next
		if p.next++; p.next == p.high {
			p.next = p.low
		}
		if isFree(net.JoinHostPort(host, strconv.Itoa(port))) {
			return port, nil
		}
	}
	return 0, ErrNone
}

func isFree(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	u.Close()
	return true
}
