package wire

// BackupRequest asks any server for a snapshot of the whole replicated state,
// not older than the request.
type BackupRequest struct {
	ClusterID string `msgpack:"c"`
}

// BackupChunk is one piece of a snapshot, in order. The first one carries no
// data: it says what comes.
type BackupChunk struct {
	Index uint64 `msgpack:"i,omitempty"` // log index of the snapshot
	Size  int64  `msgpack:"s,omitempty"` // bytes that will come, at least: the job states
	Data  []byte `msgpack:"d,omitempty"`
}

// MaxBackupChunk is the size of a BackupChunk's data in bytes; the last one is
// shorter.
const MaxBackupChunk = 1 << 20

// EventsRequest asks any replica for the cluster's events.
type EventsRequest struct {
	ClusterID string `msgpack:"c"`
	After     uint64 `msgpack:"a"` // strictly after this log index
	Job       string `msgpack:"j"` // "" for all
	Follow    bool   `msgpack:"f"` // go on with those to come
}

// EventsReply tells of every event through log index Index that none before it
// told of. A follower that goes on at another replica asks for what is after
// Index: it sees no event twice and none out of order.
type EventsReply struct {
	Index  uint64      `msgpack:"i"`
	Events []EventInfo `msgpack:"e,omitempty"` // oldest first
}

// EventInfo is one line of the cluster's history.
type EventInfo struct {
	Index   uint64 `msgpack:"i" json:"index"` // log index of the command that made it
	Stamp   int64  `msgpack:"t" json:"time"`  // Unix nanoseconds, by the proposer
	Kind    string `msgpack:"k" json:"kind"`
	Job     string `msgpack:"j,omitempty" json:"job,omitempty"`
	Node    string `msgpack:"n,omitempty" json:"node,omitempty"`
	Epoch   uint64 `msgpack:"e,omitempty" json:"epoch,omitempty"`
	Version uint64 `msgpack:"v,omitempty" json:"version,omitempty"`
	Detail  string `msgpack:"d,omitempty" json:"detail,omitempty"`
}

// Cluster implements Tagged.
func (r *BackupRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *EventsRequest) Cluster() (string, bool) { return r.ClusterID, true }

func (c *BackupChunk) payloadSize() int { return len(c.Data) }
