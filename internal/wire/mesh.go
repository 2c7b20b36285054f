package wire

// Caps are checked before allocation, by the codec and by every decoder.
const (
	MaxFrame        = 64 << 20 // bytes of one message
	MaxTrajectories = 1 << 16  // in one Trajectories message
	MaxActions      = 1 << 20  // in one trajectory
	MaxSpec         = 1 << 20  // bytes of a job spec
)

// Service and method names of the mesh protocol. Every call carries ClusterID,
// which the receiver checks.
const ServiceName = "driftmesh.v1.Mesh"

// SubmitRequest creates a job; submitting an equal spec under an existing name
// answers with the existing job (so a client may retry).
type SubmitRequest struct {
	ClusterID string `msgpack:"c"`
	Spec      []byte `msgpack:"s"` // job.Spec as JSON
}

// SubmitReply names the job.
type SubmitReply struct {
	Job     string `msgpack:"j"`
	Existed bool   `msgpack:"e"`
	Status  string `msgpack:"t"` // of the job
}

// Control verbs.
const (
	VerbStop   = "stop"
	VerbPause  = "pause"
	VerbResume = "resume"
	VerbShare  = "share" // changes Weight and Priority, not the status
)

// ControlRequest changes a job's status, or its share of the workers' slots.
type ControlRequest struct {
	ClusterID string `msgpack:"c"`
	Job       string `msgpack:"j"`
	Verb      string `msgpack:"v"`
	// Weight and Priority come with VerbShare; nil leaves one as it is.
	Weight   *float64 `msgpack:"w,omitempty"`
	Priority *int     `msgpack:"p,omitempty"`
}

// ControlReply is empty: success.
type ControlReply struct{}

// StatusRequest asks for the state of the cluster and its jobs.
type StatusRequest struct {
	ClusterID string `msgpack:"c"` // "" is allowed here: status identifies a cluster
	Job       string `msgpack:"j"` // "" for all
	// Linearizable asks for an answer that contains everything answered
	// anywhere before: only the leader gives it.
	Linearizable bool `msgpack:"l"`
}

// StatusReply is what a server knows, from its own applied state.
type StatusReply struct {
	ClusterID string       `msgpack:"c" json:"cluster_id"`
	Node      string       `msgpack:"n" json:"node"`
	Leader    string       `msgpack:"l" json:"leader"` // gRPC address, "" while there is none
	Term      uint64       `msgpack:"t" json:"term"`
	Applied   uint64       `msgpack:"a" json:"applied_index"`
	Chain     []byte       `msgpack:"h" json:"chain"` // hash chain at Applied
	Servers   []MemberInfo `msgpack:"s" json:"servers"`
	Workers   []MemberInfo `msgpack:"w" json:"workers"`
	Jobs      []JobInfo    `msgpack:"j" json:"jobs"`
	// Learners are the nodes that only train.
	Learners []MemberInfo `msgpack:"q,omitempty" json:"learners"`
}

// MemberInfo is one node as gossip sees it.
type MemberInfo struct {
	ID    string `msgpack:"i" json:"id"`
	Role  string `msgpack:"r" json:"role"`
	Addr  string `msgpack:"a" json:"addr"` // gRPC address, "" for a node that serves nothing
	Alive bool   `msgpack:"l" json:"alive"`
	Slots int    `msgpack:"n,omitempty" json:"slots,omitempty"` // sampler loops of a worker
}

// JobInfo is one job as the replicated state holds it.
type JobInfo struct {
	ID           string `msgpack:"i" json:"id"`
	Status       string `msgpack:"s" json:"status"` // running | paused | stopped | finished | failed
	Reason       string `msgpack:"r" json:"reason,omitempty"`
	Generation   uint64 `msgpack:"g" json:"generation"`
	Epoch        uint64 `msgpack:"e" json:"epoch"`
	Learner      string `msgpack:"l" json:"learner"`
	LearnerAddr  string `msgpack:"la" json:"learner_addr"`
	Version      uint64 `msgpack:"v" json:"version"`
	Updates      int64  `msgpack:"u" json:"updates"` // budget
	Trajectories uint64 `msgpack:"t" json:"trajectories"`
	StateHash    []byte `msgpack:"h" json:"state_hash"`
	Sessions     int    `msgpack:"n" json:"sessions"`
	Spec         []byte `msgpack:"p" json:"-"`
	// CommitEpoch is the epoch that Version was committed under.
	CommitEpoch uint64 `msgpack:"ce,omitempty" json:"commit_epoch"`
	// Weight and Priority are the job's share of the workers' slots. A server that
	// does not say has Weight 0.
	Weight   float64 `msgpack:"w,omitempty" json:"weight"`
	Priority int     `msgpack:"y,omitempty" json:"priority"`
	// Slots are those that sample for the job now. Only the leader knows; nil
	// where another server answers.
	Slots *int `msgpack:"sl,omitempty" json:"slots,omitempty"`
	// Effort is told by the node whose learner trains the job; nil elsewhere.
	Effort *Effort `msgpack:"ef,omitempty" json:"effort,omitempty"`
}

// AssignRequest opens a slot's stream of assignments.
type AssignRequest struct {
	ClusterID string `msgpack:"c"`
	Worker    string `msgpack:"w"` // node UUID
	Slot      int    `msgpack:"s"`
}

// Assignment tells a slot what to sample for. It is soft state of the leader,
// recomputed after a failover. An empty Job means: nothing to do now.
type Assignment struct {
	Job         string `msgpack:"j"`
	Spec        []byte `msgpack:"s"`
	LearnerAddr string `msgpack:"l"`
}

// OpenSessionRequest opens a session through the log: one incarnation of one
// slot for one job. Token makes a retried open idempotent.
type OpenSessionRequest struct {
	ClusterID string `msgpack:"c"`
	Job       string `msgpack:"j"`
	Worker    string `msgpack:"w"`
	Slot      int    `msgpack:"s"`
	Token     string `msgpack:"t"` // UUID born with the incarnation; becomes the session ID
}

// OpenSessionReply carries the session's committed mark.
type OpenSessionReply struct {
	Session string `msgpack:"s"`
	Mark    uint64 `msgpack:"m"`
}

// SubscribeRequest asks for every published snapshot after a position.
type SubscribeRequest struct {
	ClusterID string   `msgpack:"c"`
	Job       string   `msgpack:"j"`
	After     Position `msgpack:"a"` // strictly after; use Any for the first
	Any       bool     `msgpack:"n"` // accept the present one, whatever its position
}

// Snapshot is one committed, published version of the parameters.
type Snapshot struct {
	Job      string   `msgpack:"j"`
	Position Position `msgpack:"p"`
	Epoch    uint64   `msgpack:"e"`
	Stamp    int64    `msgpack:"t"` // Unix nanoseconds, by the learner that committed it
	Hash     []byte   `msgpack:"h"` // SHA-256 of Params
	Params   []byte   `msgpack:"d"` // little-endian float32
	Final    bool     `msgpack:"f"` // the job is over; no newer version will come
}

// StateRequest asks for a job's whole committed state (for checkpoints).
type StateRequest struct {
	ClusterID string `msgpack:"c"`
	Job       string `msgpack:"j"`
	Sessions  bool   `msgpack:"s,omitempty"` // list the worker sessions too
	// Parts says that the asker takes a large state in parts.
	Parts bool `msgpack:"p,omitempty"`
}

// StateReply is the committed state of a job.
type StateReply struct {
	Info    JobInfo `msgpack:"i"`
	Params  []byte  `msgpack:"p"` // little-endian float32
	Private []byte  `msgpack:"s"` // learner state that is not published
	// Sessions, where asked for, are all that ever were, by ID.
	Sessions []SessionInfo `msgpack:"n,omitempty"`
	// InParts says that the state does not go into one message: Params and Private
	// are empty, and the method StateParts has them.
	InParts bool `msgpack:"x,omitempty"`
}

// MaxWholeState is the most bytes of a state in one StateReply; a larger one
// comes in parts.
const MaxWholeState = MaxFrame / 2

// StatePart is one message of a state in parts. The first has Head and no Data,
// the others nothing but Data, MaxPart bytes in all but the last: Params and
// then Private.
type StatePart struct {
	Head *StateHead `msgpack:"h,omitempty"`
	Data []byte     `msgpack:"d,omitempty"`
}

// StateHead says what comes. Info has the hash of it.
type StateHead struct {
	Info     JobInfo       `msgpack:"i"`
	Params   int64         `msgpack:"p"` // bytes
	Private  int64         `msgpack:"s"` // bytes
	Sessions []SessionInfo `msgpack:"n,omitempty"`
}

// Uplink is one message of a worker on its trajectory stream. The first
// carries Hello, the others Batch.
type Uplink struct {
	Hello *Hello `msgpack:"h,omitempty"`
	Batch []byte `msgpack:"b,omitempty"` // EncodeBatch
	// Spent is where the slot's time went since it last said so on any stream.
	Spent *Spent `msgpack:"t,omitempty"`
}

// Hello opens a trajectory stream.
type Hello struct {
	ClusterID string `msgpack:"c"`
	Job       string `msgpack:"j"`
	Session   string `msgpack:"s"`
}

// Downlink is one message of the learner on that stream. Resume is sent once,
// as the answer to Hello.
type Downlink struct {
	Resume uint64 `msgpack:"r"` // the next sequence number the learner wants
	Mark   uint64 `msgpack:"m"` // committed: everything up to it may be forgotten
	// Credit is the highest sequence number that the worker may send.
	Credit uint64 `msgpack:"k"`
}

// WatchRequest asks for the metric rows of a job after a version.
type WatchRequest struct {
	ClusterID string `msgpack:"c"`
	Job       string `msgpack:"j"`
	After     uint64 `msgpack:"a"`
}

// WatchReply is one row, JSON of the learner's metrics.
type WatchReply struct {
	Row []byte `msgpack:"r"`
}

// JoinRequest asks a server to take a node into the cluster. A server that
// joins gives its raft address; a worker leaves it empty and only learns the
// cluster's identity and where to gossip.
type JoinRequest struct {
	ClusterID string `msgpack:"c"` // "" when the node knows an address only
	NodeID    string `msgpack:"i"`
	RaftAddr  string `msgpack:"r"` // "" for workers
	GRPCAddr  string `msgpack:"g"` // "" for workers
	// Role of a node with a raft address: "" or "server" may become a voter, a
	// "learner" receives the log and never has a vote.
	Role string `msgpack:"o,omitempty"`
}

// JoinReply says which cluster that is and where its members gossip.
type JoinReply struct {
	ClusterID string   `msgpack:"c"`
	Gossip    []string `msgpack:"g"` // addresses to give to Mesh.Join
}
