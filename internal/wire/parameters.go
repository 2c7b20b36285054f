package wire

import (
	"crypto/sha256"
	"fmt"
	"slices"
)

// ParametersService names the service that hands parameters on. Servers offer
// it from their replica and worker nodes from what they received.
const ParametersService = "driftmesh.v1.Parameters"

// Caps of parameter fan-out.
const (
	MaxParameters = 256 << 20 // bytes of one encoded snapshot, as many as a job's state may have
	MaxPart       = 1 << 20   // bytes of a snapshot in one message; all but its last part have as many
	MaxRoute      = 12        // nodes that a snapshot may pass on its way
	maxName       = 255       // bytes of a job's name, a node's group, or a file's name
)

// Encodings of published parameters.
const (
	Float32 = "float32" // little-endian binary32
	BF16    = "bf16"    // little-endian bfloat16
)

// Kinds of followers, by which a node counts what it sends.
const (
	PeerWorker = "worker" // a worker node: a machine's share of the tree
	PeerLocal  = "local"  // a process that shares the follower's cache folder
	PeerClient = "client" // anything else
)

// FollowRequest asks for every published version of a job after a position,
// newest only.
type FollowRequest struct {
	ClusterID string   `msgpack:"c"`
	Job       string   `msgpack:"j"`
	After     Position `msgpack:"a"` // strictly after; use Any for the first
	Any       bool     `msgpack:"n"` // accept the present one, whatever its position
	Group     string   `msgpack:"g"` // whoever shares the follower's cache; refused on its own route
	Kind      string   `msgpack:"k"` // of follower
	Have      []byte   `msgpack:"h"` // SHA-256 of the bytes that the follower holds, nil for none
	// Cache, when it is the cache folder of the node that is asked, makes it name
	// files instead of sending bytes.
	Cache string `msgpack:"f,omitempty"`
}

// FollowReply is one message on the stream. The first one carries Route, so that
// a follower knows at once that its parent lives and hangs on a replica. A
// Head brings its first bytes along; while Size is not reached, messages with
// nothing but Part follow.
type FollowReply struct {
	// Route names the groups between the replica and the follower, the sender
	// last; nil means as before.
	Route []string `msgpack:"r,omitempty"`
	Head  *Head    `msgpack:"h,omitempty"`
	Part  []byte   `msgpack:"p,omitempty"`
}

// Head identifies one published version by its content.
type Head struct {
	Job      string   `msgpack:"j"`
	Position Position `msgpack:"p"`
	Epoch    uint64   `msgpack:"e"`
	Stamp    int64    `msgpack:"t"` // Unix nanoseconds, by the learner that committed it
	Encoding string   `msgpack:"c"` // Float32 or BF16
	Hash     []byte   `msgpack:"h"` // SHA-256 of the encoded bytes; nil while there are none
	Size     int64    `msgpack:"s"` // of the encoded bytes
	Final    bool     `msgpack:"f"` // the job is over; no newer version will come
	// Same says that the bytes are those that the follower has already.
	Same bool `msgpack:"m,omitempty"`
	// File names the file in the common cache folder that holds the bytes.
	File string `msgpack:"n,omitempty"`
}

// Cluster implements Tagged.
func (r *FollowRequest) Cluster() (string, bool) { return r.ClusterID, true }

func (r *FollowReply) payloadSize() int { return len(r.Part) }

// Check refuses a request over the caps.
func (r *FollowRequest) Check() error {
	switch {
	case r.Job == "" || len(r.Job) > maxName:
		return fmt.Errorf("%w: a job's name of %d bytes; want 1 to %d", ErrFrame, len(r.Job), maxName)
	case len(r.Group) > maxName || len(r.Cache) > maxName:
		return fmt.Errorf("%w: a group or cache name over %d bytes", ErrFrame, maxName)
	case len(r.Have) != 0 && len(r.Have) != sha256.Size:
		return fmt.Errorf("%w: a hash of %d bytes; want %d", ErrFrame, len(r.Have), sha256.Size)
	case !slices.Contains([]string{PeerWorker, PeerLocal, PeerClient}, r.Kind):
		return fmt.Errorf("%w: a follower of kind %q", ErrFrame, r.Kind)
	}
	return nil
}

// Check refuses a head that promises what cannot be, before anything is
// allocated for it.
func (h *Head) Check() error {
	unit := int64(4)
	switch h.Encoding {
	case Float32:
	case BF16:
		unit = 2
	default:
		return fmt.Errorf("%w: parameters encoded as %q", ErrFrame, h.Encoding)
	}
	switch {
	case h.Size < 0 || h.Size%unit != 0:
		return fmt.Errorf("%w: parameters of %d bytes, %s", ErrFrame, h.Size, h.Encoding)
	case h.Size > MaxParameters:
		return fmt.Errorf("%w: parameters of %d bytes, the cap is %d", ErrTooLarge, h.Size, MaxParameters)
	case h.Size == 0 && len(h.Hash) != 0, h.Size > 0 && len(h.Hash) != sha256.Size:
		return fmt.Errorf("%w: a hash of %d bytes for %d bytes of parameters", ErrFrame, len(h.Hash), h.Size)
	case len(h.Job) > maxName || len(h.File) > maxName:
		return fmt.Errorf("%w: a name over %d bytes", ErrFrame, maxName)
	}
	return nil
}

// CheckRoute refuses a route that is too long.
func CheckRoute(route []string) error {
	if len(route) > MaxRoute {
		return fmt.Errorf("%w: a route over %d nodes, the cap is %d", ErrTooLarge, len(route), MaxRoute)
	}
	for _, g := range route {
		if len(g) > maxName {
			return fmt.Errorf("%w: a group's name of %d bytes", ErrTooLarge, len(g))
		}
	}
	return nil
}
