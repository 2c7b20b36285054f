// Package fanout hands published parameters from the servers to every worker
// process, so that what the servers send does not grow with the workers.
//
// Snapshots are named by their content. A server offers them from its replica
// (Service); the worker nodes that follow a job form a tree of at most four
// children a node (Plan), in which each one takes the bytes from its parent,
// verifies them and offers them on (Node). Processes that share a cache folder
// share one place in that tree.
package fanout

import (
	"fmt"
	"sync"

	"github.com/driftmesh/driftmesh/internal/bf16"
	"github.com/driftmesh/driftmesh/internal/piecewise"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Snapshot is one published version. It is shared by all readers and must not be
// modified.
type Snapshot struct {
	Head wire.Head
	Data []byte // encoded; nil where the job ended without a version

	decode sync.Once
	params []float32
	err    error
}

// NewSnapshot encodes committed parameters, little-endian float32 with their
// hash, for publication. h says which encoding; NewSnapshot adds hash and size.
func NewSnapshot(h wire.Head, params, hash []byte) (*Snapshot, error) {
	s := &Snapshot{Head: h, Data: params}
	s.Head.Hash = hash
	if h.Encoding == wire.BF16 {
		data, err := bf16.Encode(params)
		if err != nil {
			return nil, fmt.Errorf("publish version %d: %w", h.Position.Version, err)
		}
		sum := piecewise.Sum256(data)
		s.Data, s.Head.Hash = data, sum[:]
	}
	if len(s.Data) == 0 {
		s.Data, s.Head.Hash = nil, nil
	}
	s.Head.Size = int64(len(s.Data))
	if err := s.Head.Check(); err != nil {
		return nil, fmt.Errorf("publish version %d: %w", h.Position.Version, err)
	}
	return s, nil
}

// Position is the snapshot's place in the order of versions.
func (s *Snapshot) Position() wire.Position { return s.Head.Position }

// Params returns the parameters as float32, decoded at the first call and then
// shared: nobody may write to them.
func (s *Snapshot) Params() ([]float32, error) {
	s.decode.Do(func() {
		if s.Head.Encoding == wire.BF16 {
			s.params, s.err = bf16.Decode(s.Data)
		} else {
			s.params, s.err = wire.DecodeFloats(s.Data)
		}
	})
	return s.params, s.err
}
