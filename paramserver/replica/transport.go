package replica

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// rpcTimeout bounds dialling and every exchange with a peer; at 16 entries of
// 1 MB it asks for 5 MB/s. Snapshots get more, by their size.
const rpcTimeout = 3 * time.Second

// resolver answers raft's address look-ups from the caller's membership, and
// tells the layer who it will meet there.
type resolver struct {
	resolve func(id string) (string, bool)
	layer   *tcpLayer
}

// ServerAddr implements raft.ServerAddressProvider.
func (r resolver) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	addr, ok := r.resolve(string(id))
	if !ok {
		return "", fmt.Errorf("no address known for server %s", id)
	}
	r.layer.expect(addr, string(id))
	return raft.ServerAddress(addr), nil
}

// transport is raft's network transport that also remembers how far each
// follower's log reaches, which raft knows and does not tell.
type transport struct {
	*raft.NetworkTransport
	layer *tcpLayer

	mu      sync.Mutex
	reached map[raft.ServerID]uint64
	contact map[raft.ServerID]time.Time // of the last successful answer
	moved   chan struct{}               // closed and replaced whenever reached changes
}

func newTransport(layer *tcpLayer, resolve func(string) (string, bool), logger hclog.Logger) *transport {
	cfg := &raft.NetworkTransportConfig{Stream: layer, MaxPool: 3, Timeout: rpcTimeout, Logger: logger}
	if resolve != nil {
		cfg.ServerAddressProvider = resolver{resolve, layer}
	}
	return &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(cfg),
		layer:            layer,
		reached:          map[raft.ServerID]uint64{},
		contact:          map[raft.ServerID]time.Time{},
		moved:            make(chan struct{}),
	}
}

// EncodePeer implements raft.Transport. raft only asks for the local server,
// whose address needs no look-up.
func (t *transport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// AppendEntries implements raft.Transport. Heartbeats pass here too, several
// per election timeout, so the observation is always fresh.
func (t *transport) AppendEntries(id raft.ServerID, addr raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.NetworkTransport.AppendEntries(id, addr, req, resp)
	if err == nil && resp.Success {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.contact[id] = time.Now()
		if t.reached[id] != resp.LastLog {
			t.reached[id] = resp.LastLog
			close(t.moved)
			t.moved = make(chan struct{})
		}
	}
	return err
}

// progress returns the last log index that a follower reported, and a channel
// closed at the next report that differs.
func (t *transport) progress(id raft.ServerID) (uint64, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reached[id], t.moved
}

func (t *transport) follower(id raft.ServerID) (uint64, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reached[id], t.contact[id]
}

func (t *transport) forget(id raft.ServerID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.reached, id)
	delete(t.contact, id)
}

// shut closes every connection and waits for the handlers of the accepted ones.
func (t *transport) shut() error {
	t.CloseStreams()
	err := t.Close()
	t.layer.wg.Wait()
	return err
}
