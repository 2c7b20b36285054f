package freeport

import (
	"errors"
	"net"
	"strconv"
	"testing"
)

const host = "127.0.0.1"

// TestFind: no port is given twice or while somebody has it, and none is the
// kernel's to give away while its owner is down.
func TestFind(t *testing.T) {
	p := &ports{low: shared().low, high: shared().high}
	p.next = p.high - 5 // the ring's end lies among them
	given := map[int]bool{}
	for range 10 {
		before := p.next
		taken, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(before)))
		port, ferr := p.find(host)
		if err == nil {
			taken.Close()
		}
		if ferr != nil || port == before || port < p.low || port >= p.high || given[port] {
			t.Fatalf("port %d (%v) after %v, while %d is taken; want another one of %d to %d", port, ferr, given, before, p.low, p.high-1)
		}
		given[port] = true
	}
	any, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer any.Close()
	if port := any.Addr().(*net.TCPAddr).Port; port >= p.low && port < p.high {
		t.Errorf("the kernel gives %d to anyone, it is among %d to %d", port, p.low, p.high-1)
	}
}

func TestNoneIsFree(t *testing.T) {
	u, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	only := u.LocalAddr().(*net.UDPAddr).Port // free for TCP, as a rule
	p := ports{low: only, high: only + 1, next: only}
	if port, err := p.find(host); !errors.Is(err, ErrNone) {
		t.Errorf("port %d (%v), its UDP side is taken", port, err)
	}
}
