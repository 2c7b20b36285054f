// Package fsm is the replicated state machine of the parameter server: pure,
// deterministic, without clock or I/O. Every replica applies the same commands
// in the same order and holds the same bytes.
package fsm

// Commands. Each is one raft log entry; Encode writes a format version, the
// kind and the msgpack body. Stamps are written by the proposer, so applying
// stays deterministic.
type (
	// Init gives the cluster its identity; the first command of every log.
	Init struct {
		ClusterID string `msgpack:"c"`
		Stamp     int64  `msgpack:"t"`
	}
	// CreateJob adds a job at version 0, without state: the first learner
	// initialises from the spec's seed and commits version 0.
	CreateJob struct {
		Job     string `msgpack:"j"`
		Spec    []byte `msgpack:"s"`
		Updates int64  `msgpack:"u"`
		Stamp   int64  `msgpack:"t"`
		// Since level 2; zero means weight 1, priority 0.
		Weight   float64 `msgpack:"w,omitempty"`
		Priority int     `msgpack:"p,omitempty"`
	}
	// Grant hands a job to a learner. It applies only if Epoch is exactly one
	// more than the job's epoch: leases are fenced by number, not by clock.
	Grant struct {
		Job   string `msgpack:"j"`
		Epoch uint64 `msgpack:"e"`
		Node  string `msgpack:"n"`
		Addr  string `msgpack:"a"` // gRPC address of the learner
		Stamp int64  `msgpack:"t"`
		// Since level 2: why this node, in a sentence for `driftmesh events`.
		Reason string `msgpack:"r,omitempty"`
	}
	// Commit replaces a job's state by the state after Version-Base optimiser
	// steps. Applied only if Generation, Epoch and Base are the job's present
	// ones and Version > Base (or both 0 while the job has no state).
	Commit struct {
		Job        string   `msgpack:"j"`
		Generation uint64   `msgpack:"g"`
		Epoch      uint64   `msgpack:"e"`
		Base       uint64   `msgpack:"b"`
		Version    uint64   `msgpack:"v"`
		Params     []byte   `msgpack:"p"` // published: little-endian float32
		Private    []byte   `msgpack:"s"` // not published: moments, normaliser, counters
		Marks      []Mark   `msgpack:"m"`
		Best       []Object `msgpack:"o"` // new candidates only
		Done       bool     `msgpack:"d"` // the budget is reached: the job becomes finished
		Stamp      int64    `msgpack:"t"`
		// Since level 2: the archive segments that hold what Marks cover. They
		// are durable on as many nodes as the job asks for before this Commit
		// is proposed.
		Segments []Segment `msgpack:"z,omitempty"`
	}
	// OpenSession begins one incarnation of a worker slot for a job. Repeating
	// it with the same Session is answered with the present mark.
	OpenSession struct {
		Job     string `msgpack:"j"`
		Session string `msgpack:"s"`
		Worker  string `msgpack:"w"`
		Slot    int    `msgpack:"n"`
		Stamp   int64  `msgpack:"t"`
	}
	// ExpireSession ends it: later batches of that session are refused.
	ExpireSession struct {
		Job     string `msgpack:"j"`
		Session string `msgpack:"s"`
		Stamp   int64  `msgpack:"t"`
	}
	// SetStatus changes a job's status; Fence also increments the epoch, so
	// that the present learner can commit no more.
	SetStatus struct {
		Job    string `msgpack:"j"`
		Status Status `msgpack:"s"`
		Reason string `msgpack:"r"`
		Fence  bool   `msgpack:"f"`
		Stamp  int64  `msgpack:"t"`
	}

	// The commands below exist since level 2.

	// Chunk is one part of a command too large for one log entry. Parts come in
	// order within one raft term; the command applies with the last of them and
	// the Result of that part is its own. Transfer is the SHA-256 of the whole
	// encoded command. A part that comes in a newer term than its first, or out
	// of order, aborts the transfer on every replica alike: the learner begins
	// again.
	Chunk struct {
		Transfer Hash   `msgpack:"x"`
		Part     int    `msgpack:"i"` // from 0
		Parts    int    `msgpack:"n"`
		Size     int64  `msgpack:"s"` // of the whole encoded command, bytes
		Data     []byte `msgpack:"d"`
	}
	// SetShare changes what part of the workers' slots a job gets.
	SetShare struct {
		Job      string  `msgpack:"j"`
		Weight   float64 `msgpack:"w"`
		Priority int     `msgpack:"p"`
		Stamp    int64   `msgpack:"t"`
	}
	// Compact replaces archive segments of a job by one that holds their rows.
	// Applied only if Generation and Epoch are the job's present ones and every
	// segment of Remove is listed.
	Compact struct {
		Job        string   `msgpack:"j"`
		Generation uint64   `msgpack:"g"`
		Epoch      uint64   `msgpack:"e"`
		Remove     []string `msgpack:"r"` // segment IDs
		Add        Segment  `msgpack:"a"`
		Stamp      int64    `msgpack:"t"`
	}
	// Note records an event that no other command shows: a node that joined,
	// died, left, was promoted or removed; a learner's rollback.
	Note struct {
		Kind   string `msgpack:"k"` // as Event.Kind
		Job    string `msgpack:"j,omitempty"`
		Node   string `msgpack:"n,omitempty"`
		Detail string `msgpack:"d,omitempty"`
		Stamp  int64  `msgpack:"t"`
	}
	// Activate raises the feature level of the cluster: from here on commands
	// of that level may be proposed. It never goes back, and is proposed only
	// when every server supports the level.
	Activate struct {
		Level uint8 `msgpack:"l"`
		Stamp int64 `msgpack:"t"`
	}
)

// Segment is one archive file, listed by the Commit whose marks it covers.
type Segment struct {
	ID     string   `msgpack:"i" json:"id"` // unique in the job; the name of its blob
	Hash   Hash     `msgpack:"h" json:"-"`  // SHA-256 of the blob
	Bytes  int64    `msgpack:"b" json:"bytes"`
	Rows   int64    `msgpack:"r" json:"rows"`
	Nodes  []string `msgpack:"n" json:"nodes"` // that held it when it was listed; empty: a shared bucket
	Ranges []Range  `msgpack:"s" json:"-"`     // per session, sorted: what it covers
}

// Range is a run of trajectories of one session, First to Last inclusive.
type Range struct {
	Session string `msgpack:"s"`
	First   uint64 `msgpack:"f"`
	Last    uint64 `msgpack:"l"`
}

// Event is one line of the cluster's history, the same on every replica. The
// state keeps the last MaxEvents.
type Event struct {
	Index   uint64 `msgpack:"i" json:"index"` // log index of the command that made it
	Stamp   int64  `msgpack:"t" json:"time"`  // Unix nanoseconds, by the proposer
	Kind    string `msgpack:"k" json:"kind"`
	Job     string `msgpack:"j,omitempty" json:"job,omitempty"`
	Node    string `msgpack:"n,omitempty" json:"node,omitempty"`
	Epoch   uint64 `msgpack:"e,omitempty" json:"epoch,omitempty"`
	Version uint64 `msgpack:"v,omitempty" json:"version,omitempty"`
	Detail  string `msgpack:"d,omitempty" json:"detail,omitempty"`
}

// Kinds of events.
const (
	EventInit      = "cluster-founded"
	EventRestored  = "cluster-restored"
	EventActivated = "feature-level"
	EventCreated   = "job-submitted"
	EventGranted   = "job-granted"
	EventStatus    = "job-status" // Detail: the status and its reason
	EventShare     = "job-share"
	EventOpened    = "session-opened"
	EventExpired   = "session-expired"
	EventJoined    = "node-joined"
	EventDied      = "node-died"
	EventLeft      = "node-left"
	EventPromoted  = "node-promoted"
	EventRemoved   = "node-removed"
	EventRollback  = "learner-rollback"
)

// Mark is the progress of one session within a Commit: everything up to Seq
// has got its disposition. The counts are what this Commit adds.
type Mark struct {
	Session  string `msgpack:"s"`
	Seq      uint64 `msgpack:"q"`
	Admitted uint64 `msgpack:"a"` // trained on
	Stale    uint64 `msgpack:"l"` // dropped as too old
	Refused  uint64 `msgpack:"r"` // malformed or non-finite
}

// Object is a terminal object with its log-reward.
type Object struct {
	Text      string  `msgpack:"x" json:"object"`
	LogReward float64 `msgpack:"r" json:"log_reward"`
	Version   uint64  `msgpack:"v" json:"version"`
}

// Status of a job.
type Status string

const (
	Running  Status = "running"
	Paused   Status = "paused"
	Stopped  Status = "stopped"
	Finished Status = "finished"
	Failed   Status = "failed"
)

// Outcome is the definite answer of the state machine to a command. A command
// whose answer never arrived is neither: see replica.ErrUnknown.
type Outcome string

const (
	Applied        Outcome = "applied"
	AlreadyApplied Outcome = "already-applied" // the very same Commit, OpenSession, CreateJob or Init is in the state
	Fenced         Outcome = "fenced"          // epoch or generation is not the current one
	WrongBase      Outcome = "wrong-base"      // Base is not the committed version
	Aborted        Outcome = "aborted"         // the Chunk does not continue a transfer: begin again with part 0; Reason says why
	Rejected       Outcome = "rejected"        // anything else; Reason says what
)

// Result is what Apply answers. Applied for a Chunk that is not the last one
// says only that the part arrived.
type Result struct {
	Outcome Outcome
	Reason  string // set when Rejected or Aborted
	Mark    uint64 // OpenSession: the session's committed mark
}
