package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

const (
	checkpointEvery = 64 // log entries
	maxCheckpoints  = 64 // kept
)

// Checkpoint is the hash chain at one index, for comparison with a replica
// that has gone further, or not so far.
type Checkpoint struct {
	Index uint64 `msgpack:"i"`
	Chain Hash   `msgpack:"h"`
}

// link extends the hash chain: H(previous, index, command hash, hashes of what
// changed). Rejected commands are part of it, so that replicas which judged an
// entry differently diverge visibly. What changed are the blobs of a Commit or
// a CreateJob, the transfer that a Chunk continued, and transfers that were
// dropped.
func (s *State) link(command Hash, changed []Hash) {
	h := sha256.New()
	h.Write(s.chain[:])
	h.Write(binary.LittleEndian.AppendUint64(nil, s.index))
	h.Write(command[:])
	for _, c := range changed {
		h.Write(c[:])
	}
	h.Sum(s.chain[:0])
}

// checkpoint remembers the chain at the first command whose index is beyond a
// multiple of checkpointEvery; before is the index of the command before it.
// Like events there are none before level 2.
func (s *State) checkpoint(before uint64) {
	if s.index/checkpointEvery == before/checkpointEvery || s.FeatureLevel() < 2 {
		return
	}
	if len(s.checkpoints) == maxCheckpoints {
		s.checkpoints = s.checkpoints[1:]
	}
	s.checkpoints = append(s.checkpoints, Checkpoint{Index: s.index, Chain: s.chain})
}

// Chain is the hash chain at Index: equal on every replica at the same index.
func (s *State) Chain() Hash { return s.chain }

// Checkpoints returns the chain at the last 64 checkpoints, oldest first: one
// at the first command whose index reached or crossed a multiple of 64. Equal
// on every replica at the same index; none before level 2.
func (s *State) Checkpoints() []Checkpoint { return slices.Clone(s.checkpoints) }
