package archive

import (
	"crypto/sha256"
	"fmt"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// Name is what a segment's ID says. No two segments of a job have the same ID:
// those of one (generation, epoch) are made by one run of one learner, and the
// end of the ID is from the content's hash, so that a blob is never replaced by
// another one.
type Name struct {
	Generation uint64
	Epoch      uint64 // of the lease under which it was made
	Version    uint64 // of the Commit that lists it; of a merged one, when it was made
	Tier       int    // 0: made for a Commit; else merged from segments of the tier below
	Tag        string // 16 hexadecimal digits of the hash
}

// String returns the ID. IDs of one epoch and tier sort by version.
func (n Name) String() string {
	return fmt.Sprintf("g%d-e%d-v%012d-t%d-%s", n.Generation, n.Epoch, n.Version, n.Tier, n.Tag)
}

// ParseName reads an ID. What is no ID of this form was not made here.
func ParseName(id string) (Name, bool) {
	var n Name
	if _, err := fmt.Sscanf(id, "g%d-e%d-v%d-t%d-%s", &n.Generation, &n.Epoch, &n.Version, &n.Tier, &n.Tag); err != nil || n.Tier < 0 || n.String() != id {
		return Name{}, false
	}
	return n, true
}

// Fenced says whether no command that lists the segment can still be applied,
// where epoch of generation is in force.
func (n Name) Fenced(generation, epoch uint64) bool {
	return n.Generation < generation || n.Generation == generation && n.Epoch < epoch
}

// New returns the segment of the rows that a Commit adds, whose marks move over
// ranges, and its content: none where there are no rows.
func New(generation, epoch, version uint64, rows []Row, ranges []fsm.Range) (fsm.Segment, []byte, error) {
	return build(Name{Generation: generation, Epoch: epoch, Version: version}, rows, ranges)
}

// build makes a segment. Of one without rows the name says by its Tag, if it has
// one, what else tells it apart.
func build(name Name, rows []Row, ranges []fsm.Range) (fsm.Segment, []byte, error) {
	var data []byte
	if len(rows) > 0 {
		var err error
		if data, err = Encode(rows); err != nil {
			return fsm.Segment{}, nil, err
		}
	}
	hash := sha256.Sum256(data)
	if len(rows) > 0 || name.Tag == "" {
		name.Tag = tag(hash)
	}
	return fsm.Segment{ID: name.String(), Hash: hash, Bytes: int64(len(data)), Rows: int64(len(rows)), Ranges: ranges}, data, nil
}

func tag(hash fsm.Hash) string { return fmt.Sprintf("%x", hash[:8]) }
