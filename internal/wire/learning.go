package wire

import "fmt"

// LearningService is the gRPC service between the leader and the nodes that
// train: one stream for each node, which carries the leases it holds, the
// commits of its learners, and signs of life in both directions.
const LearningService = "driftmesh.v1.Learning"

const (
	// MaxCommitPart bounds the bytes of a command in one message of a learner's
	// node, so that a large one does not hold up the signs of life.
	MaxCommitPart = 1 << 20
	// maxLeases bounds what a node may say it holds.
	maxLeases = 1 << 12
)

// LearnerUp is one message of a node that trains. The first carries Hello; one
// without anything is a sign of life, as is every other.
type LearnerUp struct {
	Hello    *LearnerHello `msgpack:"h,omitempty"`
	Part     *CommandPart  `msgpack:"p,omitempty"`
	Released *Released     `msgpack:"r,omitempty"`
	// Leaving says that the node is about to end: it keeps what it has until it
	// is released, and gets nothing more.
	Leaving bool `msgpack:"l,omitempty"`
}

// LearnerHello says who connects and what it has.
type LearnerHello struct {
	ClusterID string  `msgpack:"c"`
	Node      string  `msgpack:"n"` // UUID
	Addr      string  `msgpack:"a"` // gRPC address, where workers deliver
	Dedicated bool    `msgpack:"d"` // it only trains: a learner's node
	CPUs      int     `msgpack:"u"` // as it probed them itself
	MemoryMB  int     `msgpack:"m"`
	GPUs      int     `msgpack:"g"`
	Leases    []Lease `msgpack:"l"` // that this process has
}

// Lease is the right to train a job under an epoch.
type Lease struct {
	Job   string `msgpack:"j"`
	Epoch uint64 `msgpack:"e"`
}

// CommandPart is a piece of an encoded command of the state machine. Pieces of a
// command come in order, and commands one after the other.
type CommandPart struct {
	ID   uint64 `msgpack:"i"` // of the command, chosen by the node
	Data []byte `msgpack:"d"`
	Last bool   `msgpack:"l"`
}

// Released says that the learner of a lease has ended.
type Released struct {
	Lease  Lease  `msgpack:"l"`
	Failed bool   `msgpack:"f"` // it could not go on
	Error  string `msgpack:"e"` // what it ended with, "" for nothing
}

// LearnerDown is one message of the leader to such a node. One without anything
// is a sign of life.
type LearnerDown struct {
	Permit  *Lease         `msgpack:"p,omitempty"` // a Grant to this node was applied
	Release *Lease         `msgpack:"r,omitempty"` // commit what is there and end
	Answer  *CommandAnswer `msgpack:"a,omitempty"`
}

// CommandAnswer is the definite answer to a command.
type CommandAnswer struct {
	ID      uint64 `msgpack:"i"`
	Outcome string `msgpack:"o"`
	Reason  string `msgpack:"r"`
}

// Cluster implements Tagged: the Hello carries the ID, what follows stands
// under it.
func (u *LearnerUp) Cluster() (string, bool) {
	if u.Hello == nil {
		return "", false
	}
	return u.Hello.ClusterID, true
}

func (u *LearnerUp) payloadSize() int {
	if u.Part == nil {
		return 0
	}
	return len(u.Part.Data)
}

// Check refuses a greeting over the caps.
func (h *LearnerHello) Check() error {
	switch {
	case h.Node == "" || len(h.Node) > maxName:
		return fmt.Errorf("%w: a node's name of %d bytes; want 1 to %d", ErrFrame, len(h.Node), maxName)
	case h.Addr == "" || len(h.Addr) > maxName:
		return fmt.Errorf("%w: an address of %d bytes; want 1 to %d", ErrFrame, len(h.Addr), maxName)
	case h.CPUs < 0 || h.MemoryMB < 0 || h.GPUs < 0:
		return fmt.Errorf("%w: %d CPUs, %d MiB and %d GPUs; want 0 or more of each", ErrFrame, h.CPUs, h.MemoryMB, h.GPUs)
	case len(h.Leases) > maxLeases:
		return fmt.Errorf("%w: %d leases; the cap is %d", ErrTooLarge, len(h.Leases), maxLeases)
	}
	return nil
}
