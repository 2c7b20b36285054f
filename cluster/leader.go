package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/internal/wire"
)

const (
	firstBackoff = 20 * time.Millisecond
	lastBackoff  = 500 * time.Millisecond
	// askTimeout bounds a question about who leads, so that one stopped server
	// does not hold up the search.
	askTimeout = time.Second
)

// Leader finds the node that leads the cluster, and keeps one client for every
// node it talked to. It is safe for concurrent use.
type Leader struct {
	clusterID  string
	candidates func() []string
	dial       DialOptions

	mu      sync.Mutex
	clients map[string]*Client
	last    string // address that led when last heard of, "" when unknown
	closed  bool
}

// NewLeader returns a Leader of a cluster ("" accepts any), which searches among
// candidates(): gRPC addresses of servers, as configured or gossiped.
func NewLeader(clusterID string, candidates func() []string, o DialOptions) *Leader {
	return &Leader{clusterID: clusterID, candidates: candidates, dial: o, clients: make(map[string]*Client)}
}

// Client returns the kept client of the node at addr.
func (l *Leader) Client(addr string) (*Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("cluster: %w: closed", ErrUnavailable)
	}
	if c, ok := l.clients[addr]; ok {
		return c, nil
	}
	c, err := Dial(addr, l.dial)
	if err != nil {
		return nil, err
	}
	l.clients[addr] = c
	return c, nil
}

// Close closes every client.
func (l *Leader) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	var errs []error
	for _, c := range l.clients {
		errs = append(errs, c.Close())
	}
	clear(l.clients)
	return errors.Join(errs...)
}

// Find returns a client of the present leader, asking the candidates in turn
// until one knows it or ctx ends; then the error says what they answered last.
func (l *Leader) Find(ctx context.Context) (*Client, error) {
	var lastErr error
	for wait := firstBackoff; ; wait = min(2*wait, lastBackoff) {
		if addr := l.lastKnown(); addr != "" {
			return l.Client(addr)
		}
		addrs := l.candidates()
		if len(addrs) == 0 {
			lastErr = errors.New("no server is known")
		}
		hopeless := 0
		for _, addr := range addrs {
			leader, err := l.ask(ctx, addr)
			if err == nil {
				l.Learn(leader)
				return l.Client(leader)
			}
			lastErr = fmt.Errorf("%s: %w", addr, err)
			if permanent(err) {
				hopeless++
			}
		}
		if len(addrs) > 0 && hopeless == len(addrs) {
			return nil, fmt.Errorf("cluster: find the leader: %w", lastErr)
		}
		if err := pause(ctx, wait); err != nil {
			return nil, fmt.Errorf("cluster: find the leader: %w (last: %w)", err, lastErr)
		}
	}
}

// ask returns the leader as the node at addr knows it.
func (l *Leader) ask(ctx context.Context, addr string) (string, error) {
	c, err := l.Client(addr)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := c.Status(ctx, &wire.StatusRequest{ClusterID: l.clusterID})
	if err != nil {
		return "", err
	}
	if s.Leader == "" {
		return "", ErrNotLeader{}
	}
	return s.Leader, nil
}

// Known returns the address that led when last heard of, "" when none is known.
func (l *Leader) Known() string { return l.lastKnown() }

// Learn notes that the node at addr leads, for instance from ErrNotLeader.
func (l *Leader) Learn(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = addr
}

// Forget makes the next Find search again, unless another leader than addr was
// learned meanwhile.
func (l *Leader) Forget(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == addr {
		l.last = ""
	}
}

func (l *Leader) lastKnown() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Method is a unary method of Client, as in (*Client).Submit.
type Method[Req, Res any] func(*Client, context.Context, *Req) (*Res, error)

// Call sends req to the leader, wherever it is. It tries again, with backoff
// and until ctx ends, after answers that are definite: the node did not lead.
// After anything else it returns the error, because the request may have taken
// effect: ErrUnavailable is such an error, and repeating it is the caller's
// decision (CallIdempotent).
func Call[Req, Res any](ctx context.Context, l *Leader, method Method[Req, Res], req *Req) (*Res, error) {
	return call(ctx, l, method, req, func(error) bool { return false })
}

// CallIdempotent is Call for requests that may take effect twice without harm:
// it also repeats after ErrUnavailable and ErrOutcomeUnknown.
func CallIdempotent[Req, Res any](ctx context.Context, l *Leader, method Method[Req, Res], req *Req) (*Res, error) {
	return call(ctx, l, method, req, func(err error) bool {
		return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown)
	})
}

func call[Req, Res any](ctx context.Context, l *Leader, method Method[Req, Res], req *Req, again func(error) bool) (*Res, error) {
	for wait := firstBackoff; ; wait = min(2*wait, lastBackoff) {
		c, err := l.Find(ctx)
		if err != nil {
			return nil, err
		}
		reply, err := method(c, ctx, req)
		if err == nil {
			return reply, nil
		}
		var notLeader ErrNotLeader
		switch {
		case errors.As(err, &notLeader) && notLeader.Addr != "" && notLeader.Addr != c.Addr():
			l.Learn(notLeader.Addr)
		case errors.As(err, &notLeader), again(err):
			l.Forget(c.Addr())
		default:
			if errors.Is(err, ErrUnavailable) {
				l.Forget(c.Addr())
			}
			return nil, err
		}
		// Two nodes may name each other for as long as an election lasts, so even
		// a redirect waits.
		if ctxErr := pause(ctx, wait); ctxErr != nil {
			return nil, fmt.Errorf("cluster: call the leader: %w (last: %w)", ctxErr, err)
		}
	}
}

// permanent says that asking again cannot help.
func permanent(err error) bool {
	return slices.ContainsFunc([]error{ErrForeignCluster, ErrNotLoopback, ErrInvalid}, func(s error) bool { return errors.Is(err, s) })
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
