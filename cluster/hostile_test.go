package cluster_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// rawCall sends one gRPC call by hand: a message header that claims length bytes,
// then body, which may be shorter. It returns grpc-status and grpc-message.
func rawCall(t *testing.T, addr, subtype string, length uint32, body []byte) (code, message string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline, _ := within(t).Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(conn, conn)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/" + wire.ServiceName + "/Submit"}, {":authority", addr},
		{"content-type", "application/grpc+" + subtype}, {"te", "trailers"},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	data := append(binary.BigEndian.AppendUint32([]byte{0}, length), body...)
	if err := errors.Join(
		fr.WriteSettings(),
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true}),
		fr.WriteData(1, int(length) == len(body), data),
	); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		h, ok := f.(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		for _, field := range h.Fields {
			switch field.Name {
			case "grpc-status":
				code = field.Value
			case "grpc-message":
				message = field.Value
			}
		}
		if code != "" {
			return code, message
		}
	}
}

// requireServing makes sure that a server still does its work.
func requireServing(t *testing.T, addr string) {
	t.Helper()
	if _, err := dial(t, addr).Status(within(t), &wire.StatusRequest{}); err != nil {
		t.Errorf("the server serves no longer: %v", err)
	}
}

func TestGiantFrameIsRefusedUnread(t *testing.T) {
	addr := serve(t, &node{})
	requireServing(t, addr) // connection buffers and the like exist
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	code, message := rawCall(t, addr, wire.CodecName, 1<<30, []byte("start of much"))
	runtime.ReadMemStats(&after)
	if code != "8" || message != "grpc: received message larger than max (1073741824 vs. 67108864)" { // RESOURCE_EXHAUSTED
		t.Errorf("got code %s, %q", code, message)
	}
	if err := cluster.FromStatus(status.Error(codes.ResourceExhausted, message)); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("the client reads %q, want wire.ErrTooLarge", err)
	}
	if spent := after.TotalAlloc - before.TotalAlloc; spent > 4<<20 {
		t.Errorf("refusing it allocated %d bytes", spent)
	}
	requireServing(t, addr)
}

func TestGarbageMessageGivesOneClearError(t *testing.T) {
	addr := serve(t, &node{})
	// Whatever the sender says its encoding is.
	for _, subtype := range []string{wire.CodecName, "proto"} {
		code, message := rawCall(t, addr, subtype, 7, []byte("garbage"))
		const text = "wire: malformed message: 6 bytes follow the message"
		if code != "13" || !strings.HasSuffix(message, text) { // INTERNAL: gRPC decides
			t.Errorf("%s: got code %s, %q", subtype, code, message)
		}
		err := cluster.FromStatus(status.Error(codes.Internal, message))
		if !errors.Is(err, wire.ErrFrame) || err.Error() != text {
			t.Errorf("%s: the client reads %q, want %q", subtype, err, text)
		}
	}
	requireServing(t, addr)
}

func TestServerSurvivesWhatIsNotHTTP2(t *testing.T) {
	addr := serve(t, &node{})
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", strings.Repeat("\xff", 100), http2.ClientPreface + strings.Repeat("\xff", 100)} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		deadline, _ := within(t).Deadline()
		if err := errors.Join(conn.SetDeadline(deadline), second(io.WriteString(conn, text))); err != nil {
			t.Fatal(err)
		}
		// It hangs up, by whatever means; what must not happen is the deadline.
		var timeout net.Error
		if _, err := io.Copy(io.Discard, conn); errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%.20q: the server neither answered nor hung up", text)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	requireServing(t, addr)
}

func second[T any](_ T, err error) error { return err }

// TestClientOfSomethingElse: a port where something else listens gives one
// error, of a known kind.
func TestClientOfSomethingElse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = conn.Close()
		}
	}()
	defer func() {
		_ = l.Close()
		<-stopped
	}()
	_, err = dial(t, l.Addr().String()).Status(within(t), &wire.StatusRequest{})
	if !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

// TestOversizeReplyIsRefused: the cap holds towards the client too.
func TestOversizeReplyIsRefused(t *testing.T) {
	n := &node{submit: func(*wire.SubmitRequest) (*wire.SubmitReply, error) {
		return &wire.SubmitReply{Job: strings.Repeat("x", wire.MaxFrame+1)}, nil
	}}
	_, err := dial(t, serve(t, n)).Submit(within(t), &wire.SubmitRequest{ClusterID: clusterA})
	if !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("got %v, want wire.ErrTooLarge", err)
	}
	_, err = dial(t, serve(t, n)).Submit(within(t), &wire.SubmitRequest{ClusterID: clusterA, Spec: make([]byte, wire.MaxFrame)})
	if !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("a request: got %v, want wire.ErrTooLarge", err)
	}
}
