package chaos

import (
	"net"
	"strconv"
	"testing"
)

// TestPorts: no port is given twice or while somebody has it, and none is the
// kernel's to give away while its owner is down.
func TestPorts(t *testing.T) {
	p := newPorts()
	for p.next = p.high - 5; len(p.given) < 10; { // around the end
		taken, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(p.next)))
		before := p.next
		port, ferr := p.free(loopback)
		if err == nil {
			taken.Close()
		}
		if ferr != nil || port == before || port < p.low || port >= p.high {
			t.Fatalf("port %d, %v; %d is taken, want one of %d to %d", port, ferr, before, p.low, p.high)
		}
	}
	if len(p.given) != 10 {
		t.Errorf("%d ports for 10 questions", len(p.given))
	}
	any, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer any.Close()
	if port := any.Addr().(*net.TCPAddr).Port; port >= p.low && port < p.high {
		t.Errorf("the kernel gives %d to anyone, it is among %d to %d", port, p.low, p.high)
	}
	small := &ports{low: 10, high: 10, given: map[int]bool{}}
	if port, err := small.free(loopback); err == nil {
		t.Errorf("port %d of none", port)
	}
}
