package cluster

import (
	"bytes"
	"log/slog"

	"github.com/hashicorp/memberlist"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// gossipFrame is what this package sends by gossip: one hint as a broadcast, all
// of them in the periodic exchange of two nodes, or a good-bye.
type gossipFrame struct {
	ClusterID string `msgpack:"c"`
	Hints     []hint `msgpack:"h,omitempty"`
	Goodbye   string `msgpack:"b,omitempty"` // ID of a node that leaves for good
}

// delegate is what memberlist calls, on its own goroutines and partly under its
// locks: nothing here blocks or calls memberlist back.
type delegate struct{ m *Mesh }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.MergeDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
)

// NodeMeta implements memberlist.Delegate; who sets it has checked the limit.
func (d delegate) NodeMeta(int) []byte {
	d.m.metaMu.Lock()
	defer d.m.metaMu.Unlock()
	return d.m.meta
}

// NotifyMsg implements memberlist.Delegate.
func (d delegate) NotifyMsg(data []byte) { d.take(data) }

// GetBroadcasts implements memberlist.Delegate.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.m.queue.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate: all hints, for the peer of a full
// exchange.
func (d delegate) LocalState(bool) []byte {
	d.m.hintMu.Lock()
	all := d.m.hints.all()
	d.m.hintMu.Unlock()
	data, err := wire.Marshal(&gossipFrame{ClusterID: d.m.cfg.ClusterID, Hints: all})
	if err != nil {
		d.m.log.Error("encode version hints", "err", err)
		return nil
	}
	return data
}

// MergeRemoteState implements memberlist.Delegate.
func (d delegate) MergeRemoteState(data []byte, _ bool) { d.take(data) }

func (d delegate) take(data []byte) {
	if len(data) == 0 {
		return
	}
	var f gossipFrame
	if err := wire.Unmarshal(data, &f); err != nil {
		d.m.log.Debug("gossip: a message of unknown form", "err", err)
		return
	}
	if f.ClusterID != d.m.cfg.ClusterID {
		return
	}
	d.m.offerHints(f.Hints)
	if f.Goodbye != "" {
		d.m.roster.depart(f.Goodbye)
	}
}

// NotifyAlive implements memberlist.AliveDelegate.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	_, err := admit(d.m.cfg.ClusterID, n)
	if err != nil {
		d.m.log.Warn("gossip: refused a node", "err", err)
	}
	return err
}

// NotifyMerge implements memberlist.MergeDelegate.
func (d delegate) NotifyMerge(peers []*memberlist.Node) error {
	for _, n := range peers {
		if _, err := admit(d.m.cfg.ClusterID, n); err != nil {
			d.m.log.Warn("gossip: refused to merge with another mesh", "err", err)
			d.m.setRefusal(err)
			return err
		}
	}
	return nil
}

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.record(n, Alive) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.record(n, Alive) }

// NotifyLeave implements memberlist.EventDelegate. It is told of deaths and
// departures alike and cannot tell them apart (Node.State is not maintained), so
// a departing node says good-bye in a message of its own; see roster.depart.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.record(n, Dead) }

// NotifyConflict implements memberlist.ConflictDelegate.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.m.log.Warn("gossip: a node ID at two addresses; a restarted process takes it over once the old address counts as dead",
		"id", existing.Name, "known", existing.Address(), "claimed", other.Address())
}

func (d delegate) record(n *memberlist.Node, state State) {
	meta, err := admit(d.m.cfg.ClusterID, n)
	if err != nil {
		return // cannot be: NotifyAlive let it in
	}
	d.m.roster.put(meta.member(n, state))
}

// hintBroadcast is a queued hint; a newer one of the same job replaces it.
type hintBroadcast struct {
	job string
	msg []byte
}

var _ memberlist.NamedBroadcast = (*hintBroadcast)(nil)

// Name implements memberlist.NamedBroadcast.
func (b *hintBroadcast) Name() string { return b.job }

// Invalidates implements memberlist.Broadcast; NamedBroadcast makes it moot.
func (b *hintBroadcast) Invalidates(memberlist.Broadcast) bool { return false }

// Message implements memberlist.Broadcast.
func (b *hintBroadcast) Message() []byte { return b.msg }

// Finished implements memberlist.Broadcast.
func (b *hintBroadcast) Finished() {}

// debugWriter turns memberlist's log lines into debug records: what an operator
// needs to know of them, delegate says itself.
type debugWriter struct{ log *slog.Logger }

// Write implements io.Writer.
func (w debugWriter) Write(line []byte) (int, error) {
	w.log.Debug(string(bytes.TrimSpace(line)), "from", "memberlist")
	return len(line), nil
}
