package cluster

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

const (
	// refusalEvery is the shortest time between two lines about one method and code.
	refusalEvery = 10 * time.Second
	// maxRefusals bounds the pairs of method and code that are told apart.
	maxRefusals = 256
)

// refusals tells the server's own log of calls and streams that a client got an
// error for, at a bounded pace: what gRPC refuses before any handler runs, such
// as a malformed frame, too.
type refusals struct {
	log   *slog.Logger
	count func(method, code string) // nil: nobody counts

	mu   sync.Mutex
	told map[[2]string]*refused
}

// refused is what was not told of one method and code.
type refused struct {
	last   time.Time
	untold int
}

var _ stats.Handler = (*refusals)(nil)

type methodKey struct{}

// TagRPC implements stats.Handler.
func (r *refusals) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, info.FullMethodName)
}

// HandleRPC implements stats.Handler.
func (r *refusals) HandleRPC(ctx context.Context, s stats.RPCStats) {
	end, ok := s.(*stats.End)
	if !ok || end.Error == nil || errors.Is(end.Error, io.EOF) {
		return
	}
	method, _ := ctx.Value(methodKey{}).(string)
	method = method[strings.LastIndexByte(method, '/')+1:]
	code := status.Code(end.Error)
	if r.count != nil {
		r.count(method, code.String())
	}
	n := r.due(method, code.String(), end.EndTime)
	if n == 0 {
		return
	}
	level := slog.LevelDebug // the usual course of a mesh: who leads moves, nodes come and go
	switch code {
	case codes.InvalidArgument, codes.ResourceExhausted, codes.Internal, codes.Unknown, codes.Unimplemented:
		level = slog.LevelWarn // a client that is broken, newer, or hostile
	}
	from := ""
	if p, ok := peer.FromContext(ctx); ok {
		from = addrOf(p.Addr)
	}
	r.log.Log(ctx, level, "call refused", "method", method, "from", from, "code", code.String(), "count", n, "error", end.Error)
}

// due counts one refusal and returns how many the line that is due now stands
// for, 0 if none is.
func (r *refusals) due(method, code string, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := [2]string{method, code}
	t := r.told[key]
	if t == nil {
		if len(r.told) >= maxRefusals {
			return 0
		}
		t = &refused{}
		r.told[key] = t
	}
	t.untold++
	if !t.last.IsZero() && now.Sub(t.last) < refusalEvery {
		return 0
	}
	n := t.untold
	t.last, t.untold = now, 0
	return n
}

func addrOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// TagConn implements stats.Handler.
func (r *refusals) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (r *refusals) HandleConn(context.Context, stats.ConnStats) {}
