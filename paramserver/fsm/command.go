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
	}
	// Grant hands a job to a learner. It applies only if Epoch is exactly one
	// more than the job's epoch: leases are fenced by number, not by clock.
	Grant struct {
		Job   string `msgpack:"j"`
		Epoch uint64 `msgpack:"e"`
		Node  string `msgpack:"n"`
		Addr  string `msgpack:"a"` // gRPC address of the learner
		Stamp int64  `msgpack:"t"`
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
	Rejected       Outcome = "rejected"        // anything else; Reason says what
)

// Result is what Apply answers.
type Result struct {
	Outcome Outcome
	Reason  string // set when Rejected
	Mark    uint64 // OpenSession: the session's committed mark
}
