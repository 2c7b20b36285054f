package fanout

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/internal/piecewise"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// ErrWrongBytes says that parameters do not match the hash that names them.
var ErrWrongBytes = errors.New("parameters do not match their hash")

// receiver puts together the snapshots of one stream. It has no connection: the
// caller hands it messages in order.
type receiver struct {
	job  string
	have *Snapshot // the one whose bytes this process holds, nil for none
	open func(file string, size int64) ([]byte, error)

	head *wire.Head // of the snapshot under way, nil for none
	data []byte     // its bytes so far
}

// take returns the snapshot that a message completes, nil if there is none yet.
// Malformed messages are wire.ErrFrame, over the caps wire.ErrTooLarge, and
// bytes that differ from their hash ErrWrongBytes; all mean that nothing more
// should be taken from this sender.
func (r *receiver) take(m *wire.FollowReply) (*Snapshot, error) {
	if err := wire.CheckRoute(m.Route); err != nil {
		return nil, err
	}
	switch {
	case m.Head != nil && r.head != nil:
		return nil, fmt.Errorf("%w: a head where %d bytes of version %d are missing", wire.ErrFrame, r.head.Size-int64(len(r.data)), r.head.Position.Version)
	case m.Head != nil:
		return r.begin(m.Head, m.Part)
	case r.head != nil:
		return r.extend(m.Part)
	case len(m.Part) > 0:
		return nil, fmt.Errorf("%w: bytes without a head", wire.ErrFrame)
	}
	return nil, nil
}

func (r *receiver) begin(h *wire.Head, part []byte) (*Snapshot, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	if h.Job != r.job {
		return nil, fmt.Errorf("%w: parameters of job %q, asked for %q", wire.ErrFrame, h.Job, r.job)
	}
	head := *h
	head.Same, head.File = false, ""
	if (h.Same || h.File != "") && len(part) > 0 {
		return nil, fmt.Errorf("%w: %d bytes that are promised elsewhere", wire.ErrFrame, len(part))
	}
	switch {
	case h.Same && h.Size > 0:
		if r.have == nil || !bytes.Equal(r.have.Head.Hash, h.Hash) || r.have.Head.Encoding != h.Encoding || r.have.Head.Size != h.Size {
			return nil, fmt.Errorf("%w: version %d has not the bytes that were sent before", wire.ErrFrame, h.Position.Version)
		}
		return r.complete(&Snapshot{Head: head, Data: r.have.Data}), nil
	case h.File != "":
		if r.open == nil {
			return nil, fmt.Errorf("%w: a file's name where bytes were asked for", wire.ErrFrame)
		}
		data, err := r.open(h.File, h.Size)
		if err != nil {
			return nil, err
		}
		return r.verified(head, data)
	}
	r.head, r.data = &head, nil
	return r.extend(part)
}

// extend adds a part. Memory grows with what has arrived, not with what was
// promised; parts of full size keep a sender from stretching them for ever.
func (r *receiver) extend(part []byte) (*Snapshot, error) {
	missing := r.head.Size - int64(len(r.data))
	if want := min(missing, wire.MaxPart); int64(len(part)) != want {
		return nil, fmt.Errorf("%w: a part of %d bytes of version %d; want %d", wire.ErrFrame, len(part), r.head.Position.Version, want)
	}
	if r.data == nil {
		r.data = part // it is the whole, as a rule
	} else {
		r.data = append(r.data, part...)
	}
	if int64(len(r.data)) < r.head.Size {
		return nil, nil
	}
	head, data := *r.head, r.data
	r.head, r.data = nil, nil
	return r.verified(head, data)
}

func (r *receiver) verified(head wire.Head, data []byte) (*Snapshot, error) {
	if head.Size > 0 {
		if sum := piecewise.Sum256(data); !bytes.Equal(sum[:], head.Hash) {
			return nil, fmt.Errorf("%w: version %d", ErrWrongBytes, head.Position.Version)
		}
	}
	return r.complete(&Snapshot{Head: head, Data: data}), nil
}

func (r *receiver) complete(s *Snapshot) *Snapshot {
	r.have = s
	return s
}
