package wire

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"regexp"
)

// ArchiveService is the gRPC service of the nodes that hold archive segments.
const ArchiveService = "driftmesh.v1.Archive"

// Caps of the archive.
const (
	MaxSegment     = 64 << 20 // bytes of one segment
	MaxSegmentPart = 1 << 20  // bytes of a segment in one message; all but its last part have as many
	MaxHeld        = 1 << 14  // segments in one HoldsRequest
	MaxListed      = 1 << 10  // segments in one ManifestReply
	MaxRangesPart  = 1 << 16  // ranges in one ManifestReply, unless a single segment has more
)

// SegmentName names one segment and promises its content.
type SegmentName struct {
	Job  string `msgpack:"j"`
	ID   string `msgpack:"i"`
	Hash []byte `msgpack:"h"` // SHA-256 of the content
	Size int64  `msgpack:"s"` // bytes
}

// PutSegmentRequest is one message of a segment on its way to a node. The first
// one carries Segment; all carry Part, in order.
type PutSegmentRequest struct {
	ClusterID string       `msgpack:"c"` // of the first one
	Segment   *SegmentName `msgpack:"n,omitempty"`
	Part      []byte       `msgpack:"p"`
}

// PutSegmentReply says that the segment is durable on the node.
type PutSegmentReply struct{}

// GetSegmentRequest asks a node for a segment.
type GetSegmentRequest struct {
	ClusterID string      `msgpack:"c"`
	Segment   SegmentName `msgpack:"n"`
	// Anywhere lets a node that does not hold the segment fetch it from one that
	// does.
	Anywhere bool `msgpack:"a"`
}

// GetSegmentReply is a part of the segment, in order. The node has compared the
// hash before it sends the first.
type GetSegmentReply struct {
	Part []byte `msgpack:"p"`
}

// HoldsRequest asks a node which segments of a job it holds.
type HoldsRequest struct {
	ClusterID string   `msgpack:"c"`
	Job       string   `msgpack:"j"`
	Segments  []string `msgpack:"i"`
}

// HoldsReply answers in the order of the request. Only sizes were looked at.
type HoldsReply struct {
	Held []bool `msgpack:"h"`
}

// ManifestRequest asks any server for the segments that a job lists, as of a
// state that contains everything answered before the request.
type ManifestRequest struct {
	ClusterID string `msgpack:"c"`
	Job       string `msgpack:"j"`
}

// ManifestReply is a part of the manifest, in the order of the commits. All of
// one stream are from one state.
type ManifestReply struct {
	// In the first one:
	Generation uint64 `msgpack:"g,omitempty"`
	Version    uint64 `msgpack:"v,omitempty"`
	Count      int    `msgpack:"n,omitempty"` // segments in all
	Rows       int64  `msgpack:"r,omitempty"` // in all
	Spec       []byte `msgpack:"p,omitempty"` // of the job, JSON

	Segments []SegmentInfo `msgpack:"s,omitempty"`
	// Sessions are those that the ranges of Segments name, by index.
	Sessions []string `msgpack:"e,omitempty"`
}

// SegmentInfo is one listed segment.
type SegmentInfo struct {
	ID     string      `msgpack:"i"`
	Hash   []byte      `msgpack:"h"` // SHA-256 of the content
	Bytes  int64       `msgpack:"b"` // 0: it has no rows and no content
	Rows   int64       `msgpack:"r"`
	Nodes  []string    `msgpack:"n"` // UUIDs of those that held it when it was listed; empty: a shared bucket
	Ranges []RangeInfo `msgpack:"s"` // what it covers, by session and sequence number
}

// RangeInfo is a run of trajectories of one session, First to Last inclusive.
type RangeInfo struct {
	Session int    `msgpack:"s"` // in ManifestReply.Sessions
	First   uint64 `msgpack:"f"`
	Last    uint64 `msgpack:"l"`
}

// BestRequest asks any server for the best distinct objects of a job.
type BestRequest struct {
	ClusterID string `msgpack:"c"`
	Job       string `msgpack:"j"`
}

// BestReply holds as many of the best as the replicated state keeps, best first.
type BestReply struct {
	Generation uint64       `msgpack:"g"`
	Version    uint64       `msgpack:"v"`
	Spec       []byte       `msgpack:"p"` // of the job, JSON
	Objects    []ObjectInfo `msgpack:"o"`
}

// ObjectInfo is a terminal object.
type ObjectInfo struct {
	Text      string  `msgpack:"x" json:"object"`
	LogReward float64 `msgpack:"r" json:"log_reward"`
	Version   uint64  `msgpack:"v" json:"version"` // that it was sampled with
}

// Cluster implements Tagged: the parts after the first stand under its ID.
func (r *PutSegmentRequest) Cluster() (string, bool) { return r.ClusterID, r.Segment != nil }

// Cluster implements Tagged.
func (r *GetSegmentRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *HoldsRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *ManifestRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *BestRequest) Cluster() (string, bool) { return r.ClusterID, true }

func (r *PutSegmentRequest) payloadSize() int { return len(r.Part) }
func (r *GetSegmentReply) payloadSize() int   { return len(r.Part) }

// fileName is what a job or a segment may be called: its name becomes a file's.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// CheckFileName refuses what is no plain name of a file.
func CheckFileName(what, name string) error {
	if len(name) > maxName || !fileName.MatchString(name) {
		return fmt.Errorf("%w: %s %.80q; want letters, digits, dots, dashes and underscores, at most %d", ErrFrame, what, name, maxName)
	}
	return nil
}

// Check refuses what no segment can be, before anything is allocated for it.
func (n *SegmentName) Check() error {
	if err := CheckFileName("job", n.Job); err != nil {
		return err
	}
	if err := CheckFileName("segment", n.ID); err != nil {
		return err
	}
	switch {
	case len(n.Hash) != sha256.Size:
		return fmt.Errorf("%w: segment %s has a hash of %d bytes; want %d", ErrFrame, n.ID, len(n.Hash), sha256.Size)
	case n.Size < 1:
		return fmt.Errorf("%w: segment %s of %d bytes", ErrFrame, n.ID, n.Size)
	case n.Size > MaxSegment:
		return fmt.Errorf("%w: segment %s of %d bytes, the cap is %d", ErrTooLarge, n.ID, n.Size, MaxSegment)
	}
	return nil
}

// Check refuses a request over the caps.
func (r *HoldsRequest) Check() error {
	if len(r.Segments) > MaxHeld {
		return fmt.Errorf("%w: %d segments asked for, the cap is %d", ErrTooLarge, len(r.Segments), MaxHeld)
	}
	if err := CheckFileName("job", r.Job); err != nil {
		return err
	}
	for _, id := range r.Segments {
		if err := CheckFileName("segment", id); err != nil {
			return err
		}
	}
	return nil
}

// Check refuses a reply over the caps, or one whose ranges name no session.
func (r *ManifestReply) Check() error {
	if len(r.Segments) > MaxListed {
		return fmt.Errorf("%w: %d segments in one message, the cap is %d", ErrTooLarge, len(r.Segments), MaxListed)
	}
	for i := range r.Segments {
		s := &r.Segments[i]
		if err := CheckFileName("segment", s.ID); err != nil {
			return err
		}
		switch {
		case len(s.Hash) != sha256.Size:
			return fmt.Errorf("%w: segment %s has a hash of %d bytes; want %d", ErrFrame, s.ID, len(s.Hash), sha256.Size)
		case s.Bytes < 0 || s.Bytes > MaxSegment || s.Rows < 0 || s.Rows > 0 && s.Bytes == 0:
			return fmt.Errorf("%w: segment %s of %d bytes and %d rows", ErrFrame, s.ID, s.Bytes, s.Rows)
		}
		for _, g := range s.Ranges {
			if g.Session < 0 || g.Session >= len(r.Sessions) || g.First == 0 || g.Last < g.First {
				return fmt.Errorf("%w: segment %s covers %d to %d of session %d of %d", ErrFrame, s.ID, g.First, g.Last, g.Session, len(r.Sessions))
			}
		}
	}
	return nil
}

// CheckSegment compares a segment's content with what was promised of it.
func CheckSegment(n *SegmentName, data []byte) error {
	if sum := sha256.Sum256(data); int64(len(data)) != n.Size || !bytes.Equal(sum[:], n.Hash) {
		return fmt.Errorf("%w: segment %s of %d bytes has the hash %.8x; want %d bytes and %.8x", ErrFrame, n.ID, len(data), sum, n.Size, n.Hash)
	}
	return nil
}
