package chaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// ports hands out ports, each once. A process that was killed must get its port
// back when it is started again, so ports come from below those that the kernel
// gives to whoever dials or asks for any.
type ports struct {
	low, high int // high is not among them
	next      int
	given     map[int]bool
}

const (
	lowestPort = 10000
	// ephemeral is where the kernel's ports begin if it does not say so.
	ephemeral = 32768
)

func newPorts() *ports {
	high := ephemeral
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		fmt.Sscan(string(text), &high)
	}
	if high < lowestPort+1000 { // the kernel leaves too few
		high = 1 << 16
	}
	// Meshes of other processes draw from the same ports: each begins elsewhere.
	return &ports{low: lowestPort, high: high, next: lowestPort + os.Getpid()*97%(high-lowestPort), given: map[int]bool{}}
}

// free returns a port of host that is free for TCP and UDP.
func (p *ports) free(host string) (int, error) {
	for range p.high - p.low {
		port := p.next
		if p.next++; p.next == p.high {
			p.next = p.low
		}
		if !p.given[port] && isFree(net.JoinHostPort(host, strconv.Itoa(port))) {
			p.given[port] = true
			return port, nil
		}
	}
	return 0, errors.New("no port is free for both TCP and UDP")
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
