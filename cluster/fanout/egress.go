package fanout

import (
	"maps"
	"sync"
)

// Sent counts what a node sent to followers of one kind.
type Sent struct {
	Heads uint64 // versions announced
	Bytes uint64 // of parameters, encoded; heads and framing are not counted
}

// Egress counts what a node sent, by kind of follower: wire.PeerWorker,
// wire.PeerLocal and wire.PeerClient. The zero value is ready, and safe for
// concurrent use.
type Egress struct {
	mu   sync.Mutex
	sent map[string]Sent
}

func (e *Egress) add(kind string, head bool, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sent == nil {
		e.sent = map[string]Sent{}
	}
	s := e.sent[kind]
	if head {
		s.Heads++
	}
	s.Bytes += uint64(n)
	e.sent[kind] = s
}

// Counts returns the counters so far.
func (e *Egress) Counts() map[string]Sent {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.sent)
}

// Bytes returns the sum over all kinds.
func (e *Egress) Bytes() (sum uint64) {
	for _, s := range e.Counts() {
		sum += s.Bytes
	}
	return sum
}
