package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func TestAHelloComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(0, 40, 255)
		h := hello{cluster: name.Draw(t, "cluster"), generation: rapid.Uint64().Draw(t, "generation"), from: name.Draw(t, "from"), to: name.Draw(t, "to")}
		b, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := readHello(b[:helloHeader], bytes.NewReader(b[helloHeader:]))
		if err != nil || got != h {
			t.Fatalf("%+v became %+v, %v", h, got, err)
		}
		for cut := helloHeader; cut < len(b); cut++ { // every shorter one is refused
			short := bytes.Clone(b[:cut])
			if _, err := readHello(short[:helloHeader], bytes.NewReader(short[helloHeader:])); err == nil {
				t.Fatalf("%d of %d bytes were taken for a hello", cut, len(b))
			}
		}
	})
	if _, err := (hello{from: strings.Repeat("x", 256)}).encode(); err == nil {
		t.Fatal("a name of 256 bytes was encoded")
	}
}

// FuzzHello looks for a hello that panics, or that reads back as another.
func FuzzHello(f *testing.F) {
	good, err := hello{cluster: "c", generation: 3, from: "a", to: "b"}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(helloMagic + "\x01\xff\xff"))
	f.Add([]byte(helloMagic + "\x02\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < helloHeader {
			return
		}
		h, err := readHello(b[:helloHeader], bytes.NewReader(b[helloHeader:]))
		if err != nil {
			if !errors.Is(err, errHello) {
				t.Fatalf("%v is no errHello", err)
			}
			return
		}
		again, err := h.encode()
		if err != nil || !bytes.HasPrefix(b, again) {
			t.Fatalf("%x was read as %+v, which is %x (%v)", b, h, again, err)
		}
		if _, err := readAnswer(bytes.NewReader(b)); err == nil && len(b) > 3+maxReason && b[0] > 1 {
			t.Fatal("an answer of another form was taken")
		}
	})
}

// layers returns two layers that know each other by address, and an accepting
// goroutine of the second that echoes one byte per connection.
func pair(t *testing.T, a, b membership, idA, idB string) (from, to *tcpLayer, logs *lockedBuffer) {
	t.Helper()
	logs = &lockedBuffer{}
	open := func(id string, m membership) *tcpLayer {
		l, err := listenTCP("127.0.0.1:0", id, func() membership { return m }, nil, slog.New(slog.NewTextHandler(logs, nil)))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	from, to = open(idA, a), open(idB, b)
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			c, err := to.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		from.Close()
		to.Close()
		handlers.Wait()
	})
	return from, to, logs
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestTheRaftPortTakesItsOwnClusterOnly(t *testing.T) {
	for name, c := range map[string]struct {
		a, b   membership
		idA    string
		meant  string
		refuse string
	}{
		"same":              {membership{cluster: "c"}, membership{cluster: "c"}, "a", "b", ""},
		"address only":      {membership{cluster: "c"}, membership{cluster: "c"}, "a", "", ""},
		"asks nothing":      {membership{cluster: "d"}, membership{}, "a", "", ""},
		"foreign":           {membership{cluster: "d"}, membership{cluster: "c"}, "a", "b", `belongs to cluster "d"`},
		"older generation":  {membership{cluster: "c", generation: 1}, membership{cluster: "c", generation: 2}, "a", "b", "restored since"},
		"newer generation":  {membership{cluster: "c", generation: 3}, membership{cluster: "c", generation: 2}, "a", "b", "this node (b) is of generation 2"},
		"no history yet":    {membership{cluster: "c", generation: 3}, membership{cluster: "c", empty: true}, "a", "b", ""},
		"meant for another": {membership{cluster: "c"}, membership{cluster: "c"}, "a", "x", "meant for node x"},
		"a copied folder":   {membership{cluster: "c"}, membership{cluster: "c"}, "b", "b", "own ID"},
	} {
		t.Run(name, func(t *testing.T) {
			from, to, logs := pair(t, c.a, c.b, c.idA, "b")
			if c.meant != "" {
				from.expect(to.Addr().String(), c.meant)
			}
			for range 3 {
				conn, err := from.Dial(raft.ServerAddress(to.Addr().String()), patience)
				if c.refuse != "" {
					if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.refuse) {
						t.Fatal(err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				echo(t, conn)
			}
			want := 0
			if c.refuse != "" {
				want = 1 // of three
			}
			for _, line := range []string{"a raft peer was refused", "a raft peer refused this node"} {
				if n := strings.Count(logs.String(), line); n != want {
					t.Errorf("%q was logged %d times:\n%s", line, n, logs)
				}
			}
		})
	}
}

func echo(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	if _, err := conn.Write([]byte{42}); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil || b[0] != 42 {
		t.Fatal(b, err)
	}
}

// TestARollingUpgradeMixesHandshakes: the release before has no handshake, and
// hangs up on one.
func TestARollingUpgradeMixesHandshakes(t *testing.T) {
	old := membership{cluster: "c", legacy: true}
	from, to, _ := pair(t, old, old, "a", "b")
	raw, err := net.Dial("tcp", to.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw.Write([]byte{1}) // a RequestVote begins so
	var b [1]byte
	if _, err := io.ReadFull(raw, b[:]); err != nil || b[0] != 1 {
		t.Fatal("an old peer was not let in:", b, err)
	}
	raw.Close()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var peer sync.WaitGroup
	peer.Go(func() { // what the old release does
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var kind [1]byte
			if _, err := io.ReadFull(c, kind[:]); err == nil && kind[0] < 5 {
				c.Write(kind[:])
			}
			c.Close()
		}
	})
	defer peer.Wait()
	defer l.Close()
	conn, err := from.Dial(raft.ServerAddress(l.Addr().String()), patience)
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte{0})
	if _, err := io.ReadFull(conn, b[:]); err != nil || b[0] != 0 {
		t.Fatal("an old peer was not reached:", b, err)
	}
	conn.Close()

	strict, _, _ := pair(t, membership{cluster: "c"}, membership{cluster: "c"}, "a", "b")
	if conn, err := strict.Dial(raft.ServerAddress(l.Addr().String()), patience); err == nil {
		conn.Close()
		t.Fatal("a peer without a handshake was reached after the upgrade")
	}
}

func TestABadHelloIsRefused(t *testing.T) {
	_, to, logs := pair(t, membership{}, membership{cluster: "c"}, "a", "b")
	huge := binary.LittleEndian.AppendUint16([]byte(helloMagic+"\x01"), 0xffff)
	for name, b := range map[string][]byte{
		"another protocol": []byte("GET / HTTP/1.1\r\n\r\n"),
		"an old peer":      {0, 1, 2, 3, 4, 5, 6, 7},
		"too large":        huge,
		"of a newer build": []byte(helloMagic + "\x02\x00\x00"),
	} {
		conn, err := net.Dial("tcp", to.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(b)
		conn.SetReadDeadline(time.Now().Add(patience))
		if reason, err := readAnswer(conn); err != nil || !strings.Contains(reason, "hello") {
			t.Errorf("%s: %q, %v", name, reason, err)
		}
		conn.Close()
	}
	if !strings.Contains(logs.String(), "the cap is 1024") {
		t.Error(logs)
	}
}

func TestClosingALayerEndsItsDialling(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	from, _, _ := pair(t, membership{cluster: "c"}, membership{cluster: "c"}, "a", "b")
	dialled := make(chan struct{})
	plain := from.dial
	from.dial = func(ctx context.Context, addr string) (net.Conn, error) {
		defer close(dialled)
		return plain(ctx, addr)
	}
	result := make(chan error, 1)
	go func() {
		_, err := from.Dial(raft.ServerAddress(silent.Addr().String()), patience)
		result <- err
	}()
	<-dialled
	from.Close()
	if err := <-result; err == nil {
		t.Fatal("dialled a peer that never answered")
	}
}
