package faults

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe returns a connection that node "a" dialled to node "b", and b's end.
func pipe(t *testing.T, n *Network) (a, b net.Conn) {
	t.Helper()
	raw, b := net.Pipe()
	a, err := n.wrap(raw, RPC, func() string { return "b" })
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func set(t *testing.T, n *Network, faults ...wire.LinkFault) {
	t.Helper()
	if err := n.Set(faults, 1); err != nil {
		t.Fatal(err)
	}
}

// arrives reads one byte and returns how long that took.
func arrives(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

func send(t *testing.T, c net.Conn, n int) {
	t.Helper()
	if _, err := c.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

func TestACutStallsOneDirectionUntilItHeals(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault wire.LinkFault
		out   bool // the direction from a to b is the one cut
	}{
		{"to b", wire.LinkFault{From: "a", To: "b", Cut: true}, true},
		{"from b", wire.LinkFault{From: "b", To: "a", Plane: RPC, Cut: true}, false},
		{"from a to any", wire.LinkFault{From: "a", Cut: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := New("a")
				defer n.Close()
				a, b := pipe(t, n)
				defer b.Close()
				stalled, whole := [2]net.Conn{b, a}, [2]net.Conn{a, b} // from, to
				if c.out {
					stalled, whole = whole, stalled
				}
				set(t, n, c.fault)
				go func() { whole[0].Write([]byte{1}) }()
				if took := arrives(t, whole[1]); took != 0 {
					t.Errorf("the whole direction took %s", took)
				}
				go func() { stalled[0].Write([]byte{1}) }()
				time.AfterFunc(7*time.Second, func() { n.Set(nil, 1) })
				if took := arrives(t, stalled[1]); took != 7*time.Second {
					t.Errorf("the byte arrived after %s, the cut lasted 7 s", took)
				}
				a.Close()
			})
		})
	}
}

func TestOtherPlanesAndNodesAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New("a")
		defer n.Close()
		a, b := pipe(t, n)
		defer b.Close()
		set(t, n, wire.LinkFault{Plane: Raft, Cut: true}, wire.LinkFault{From: "a", To: "c", Cut: true}, wire.LinkFault{From: "b", To: "c", Cut: true})
		send(t, a, 1)
		if took := arrives(t, b); took != 0 {
			t.Errorf("took %s", took)
		}
		a.Close()
	})
}

func TestDelayKeepsOrderAndLetsBytesFollowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New("a")
		defer n.Close()
		a, b := pipe(t, n)
		set(t, n, wire.LinkFault{From: "a", DelayMS: 100, JitterMS: 50})
		began := time.Now()
		for i := range 20 {
			if _, err := a.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		a.Close() // what was written is still delivered
		got, err := io.ReadAll(b)
		if err != nil {
			t.Fatal(err)
		}
		want := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}
		if !bytes.Equal(got, want) {
			t.Errorf("%v arrived", got)
		}
		// One after the other they would take two seconds.
		if took := time.Since(began); took < 100*time.Millisecond || took > 150*time.Millisecond {
			t.Errorf("took %s, want between 100 and 150 ms", took)
		}
	})
}

func TestRateLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New("a")
		defer n.Close()
		a, b := pipe(t, n)
		defer b.Close()
		set(t, n, wire.LinkFault{From: "b", To: "a", Rate: 10_000}, wire.LinkFault{Rate: 1e9})
		go func() { b.Write(make([]byte, 50_000)) }()
		began := time.Now()
		if _, err := io.ReadFull(a, make([]byte, 50_000)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 4900*time.Millisecond || took > 5*time.Second {
			t.Errorf("50 kB at 10 kB/s took %s", took)
		}
		a.Close()
	})
}

func TestAStalledWriterWaitsAtTheBoundAndKeepsItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New("a")
		defer n.Close()
		a, b := pipe(t, n)
		defer b.Close()
		set(t, n, wire.LinkFault{Cut: true})
		a.SetDeadline(time.Now().Add(3 * time.Second))
		began := time.Now()
		sent, err := a.Write(make([]byte, 10*maxHeld))
		if !errors.Is(err, os.ErrDeadlineExceeded) || sent != maxHeld || time.Since(began) != 3*time.Second {
			t.Errorf("%d bytes went, %v after %s", sent, err, time.Since(began))
		}
		if _, held := n.Held(); held != maxHeld {
			t.Errorf("%d bytes held, the bound is %d", held, maxHeld)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		// A later deadline is a new one.
		a.SetReadDeadline(time.Now().Add(2 * time.Second))
		began = time.Now()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Errorf("read again: %v after %s", err, time.Since(began))
		}
	})
}

func TestTheEndOfAStreamWaitsForTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New("a")
		defer n.Close()
		a, b := pipe(t, n)
		set(t, n, wire.LinkFault{From: "b", Cut: true})
		b.Close()
		time.AfterFunc(4*time.Second, func() { n.Set(nil, 1) })
		began := time.Now()
		if _, err := a.Read(make([]byte, 1)); err == nil || time.Since(began) != 4*time.Second {
			t.Errorf("%v after %s: a cut hides a death too", err, time.Since(began))
		}
		a.Close()
	})
}

// listener accepts on loopback and hands the connections over.
func listener(t *testing.T) (addr string, accepted <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan net.Conn)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			out <- c
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String(), out
}

func TestResetBreaksOpenConnections(t *testing.T) {
	n := New("a")
	defer n.Close()
	n.Names(func(string) string { return "b" })
	addr, accepted := listener(t)
	c, err := n.Dialer(Raft)(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	peer := <-accepted
	defer peer.Close()
	if got := n.Reset([]wire.LinkFault{{From: "b", To: "a", Plane: RPC}}); got != 0 {
		t.Errorf("%d connections of another plane broke", got)
	}
	if got := n.Reset([]wire.LinkFault{{From: "b", To: "a", Plane: Raft}}); got != 1 {
		t.Errorf("%d connections broke, want 1", got)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read here: %v", err)
	}
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read there: %v", err)
	}
	c.Close()
}

func TestDiallingOverACutLink(t *testing.T) {
	n := New("a")
	defer n.Close()
	n.Names(func(string) string { return "b" })
	addr, accepted := listener(t)
	set(t, n, wire.LinkFault{From: "b", To: "a", Cut: true}) // the answer would not come back
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := n.Dialer(RPC)(ctx, addr); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("dialled over a cut link: %v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { n.Set(nil, 1) })
	c, err := n.Dialer(RPC)(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer := <-accepted
	defer peer.Close()
	send(t, c, 1)
	arrives(t, peer)
}

func TestBadFaultsChangeNothing(t *testing.T) {
	n := New("a")
	defer n.Close()
	good := wire.LinkFault{From: "a", Cut: true}
	set(t, n, good)
	for _, bad := range []wire.LinkFault{{Plane: "smoke"}, {Drop: 1.5}, {DelayMS: -1}, {JitterMS: 1e9}, {Rate: -1}} {
		var fault *fielderr.Error
		if err := n.Set([]wire.LinkFault{{}, bad}, 1); !errors.As(err, &fault) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if v, _ := n.table.judge(RPC, "a", "b"); !v.cut {
		t.Error("the fault in force is gone")
	}
}
