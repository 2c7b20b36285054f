package replica

import (
	"log/slog"

	"github.com/hashicorp/raft"
)

// OpenMemory starts a one-voter cluster that forgets everything at Shutdown. It
// runs the same raft and the same state machine as Open, without files and
// sockets, for tests of what stands on a Replica. logger may be nil.
func OpenMemory(id string, logger *slog.Logger) (*Replica, error) {
	cfg, err := Config{Dir: "memory", ID: id, Listen: "memory", Single: true, Bootstrap: true, Logger: logger}.withDefaults()
	if err != nil {
		return nil, err
	}
	r := newReplica(cfg)
	_, trans := raft.NewInmemTransport("")
	r.release = trans.Close
	store := raft.NewInmemStore()
	rc := raftConfig(id, true, newBridge(r.log, "raft"))
	if err := r.start(rc, store, store, raft.NewInmemSnapshotStore(), trans); err != nil {
		return nil, err
	}
	return r, nil
}
