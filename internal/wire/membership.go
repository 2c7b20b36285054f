package wire

// MembershipService is the gRPC service of the members of the replicated log.
const MembershipService = "driftmesh.v1.Membership"

// ReadIndexRequest asks the leader for a log index that a linearizable read may
// wait for on any replica.
type ReadIndexRequest struct {
	ClusterID string `msgpack:"c"`
}

// ReadIndexReply holds the log index of a command: a replica that has applied it
// has applied everything that was answered before the request.
type ReadIndexReply struct {
	Index uint64 `msgpack:"i"`
}

// ChainRequest asks a replica for the hash chain of its state at recent indices.
type ChainRequest struct {
	ClusterID string `msgpack:"c"`
	After     uint64 `msgpack:"a"` // only checkpoints with a greater index
}

// ChainReply is what a replica's state was at recent indices, oldest first.
type ChainReply struct {
	Node        string       `msgpack:"n"` // node UUID
	Generation  uint64       `msgpack:"g"`
	Checkpoints []ChainPoint `msgpack:"p"`
}

// ChainPoint is the hash chain after the command at Index.
type ChainPoint struct {
	Index uint64 `msgpack:"i"`
	Chain []byte `msgpack:"h"` // SHA-256
}

// MembersRequest asks a server for the members of the replicated log.
type MembersRequest struct {
	ClusterID string `msgpack:"c"`
}

// MembersReply lists the nodes that receive the log, and servers and learners
// that gossip and do not.
type MembersReply struct {
	Leader    string        `msgpack:"l" json:"leader"` // node UUID, "" while there is none
	LastIndex uint64        `msgpack:"i" json:"last_index"`
	Level     uint8         `msgpack:"v" json:"feature_level"` // of the cluster
	Members   []LogMember   `msgpack:"m" json:"members"`
	Quorum    MembersQuorum `msgpack:"q" json:"quorum"`
}

// MembersQuorum is the arithmetic of fault tolerance.
type MembersQuorum struct {
	Voters int `msgpack:"v" json:"voters"`
	Alive  int `msgpack:"a" json:"alive"` // voters that answer
	Needed int `msgpack:"n" json:"needed"`
}

// Standings of a LogMember.
const (
	StandingVoter    = "voter"
	StandingNonvoter = "non-voter"
	StandingNone     = "none" // gossips, and does not receive the log
)

// LogMember is one member of the replicated log.
type LogMember struct {
	ID        string `msgpack:"i" json:"id"`
	Role      string `msgpack:"r" json:"role"` // "" for one that nobody has heard of since the server started
	Standing  string `msgpack:"s" json:"standing"`
	State     string `msgpack:"t" json:"state"` // alive | dead | left | unknown, as gossip sees it
	GRPCAddr  string `msgpack:"g" json:"grpc_addr"`
	RaftAddr  string `msgpack:"f" json:"raft_addr"`
	LastIndex uint64 `msgpack:"l" json:"last_index"` // of its log; 0 unless the leader answers
	Level     uint8  `msgpack:"v" json:"level"`      // feature level that its binary supports
}

// RemoveRequest takes a node out of the replicated log for good.
type RemoveRequest struct {
	ClusterID string `msgpack:"c"`
	Node      string `msgpack:"n"` // UUID
}

// RemoveReply is empty: success.
type RemoveReply struct{}

// Cluster implements Tagged.
func (r *ReadIndexRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *ChainRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *MembersRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *RemoveRequest) Cluster() (string, bool) { return r.ClusterID, true }
