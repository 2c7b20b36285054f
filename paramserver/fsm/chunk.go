package fsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"

	"github.com/driftmesh/driftmesh/internal/piecewise"
)

// Caps of pending transfers. Memory grows with the parts that arrived, never
// with what a Chunk declares.
const (
	MaxTransfers  = 16        // pending at a time
	MaxPending    = 512 << 20 // bytes of all pending transfers together
	MaxAge        = 4096      // log entries without progress; then the transfer is dropped
	maxParts      = 1 << 16   // of one transfer
	chunkOverhead = 256       // more than an encoded Chunk is larger than its Data, bytes
)

// transfer is a chunked command on its way.
type transfer struct {
	id    Hash
	parts int
	size  int64
	have  int64  // bytes in data
	seen  uint64 // log index of the last part
	data  [][]byte
	sum   hash.Hash // over data
}

func newTransfer(c Chunk) transfer {
	return transfer{id: c.Transfer, parts: c.Parts, size: c.Size, sum: sha256.New()}
}

// take adds the next part.
func (t *transfer) take(part []byte, index uint64) {
	t.data = append(t.data, part)
	t.have += int64(len(part))
	t.seen = index
	t.sum.Write(part)
}

// Split returns what an encoded command becomes in the log: itself if it fits
// into limit bytes, else encoded Chunks of at most limit bytes each, to be
// proposed in order within one term. The parts alias encoded only if it fits.
// It fails with ErrTooLarge above MaxCommand bytes, or if limit leaves too
// little room.
func Split(encoded []byte, limit int) ([][]byte, error) {
	if len(encoded) <= limit {
		return [][]byte{encoded}, nil
	}
	room := limit - chunkOverhead
	if len(encoded) > MaxCommand {
		return nil, fmt.Errorf("%w: %d bytes; the cap is %d", ErrTooLarge, len(encoded), MaxCommand)
	}
	if room <= 0 || (len(encoded)-1)/room+1 > maxParts {
		return nil, fmt.Errorf("%w: %d bytes do not go into %d entries of %d", ErrTooLarge, len(encoded), maxParts, limit)
	}
	c := Chunk{Transfer: piecewise.Sum256(encoded), Parts: (len(encoded)-1)/room + 1, Size: int64(len(encoded))}
	out := make([][]byte, 0, c.Parts)
	for part := range slices.Chunk(encoded, room) {
		c.Data = part
		data, err := Encode(c)
		if err != nil {
			return nil, err
		}
		out = append(out, data)
		c.Part++
	}
	return out, nil
}

// dropTransfers forgets what an entry at this index and term puts an end to:
// every transfer of an older term, because the leader that proposed its parts
// in order leads no longer, and those without progress. It returns their IDs.
func (s *State) dropTransfers(index, term uint64) []Hash {
	if len(s.pending) == 0 {
		return nil
	}
	var dropped []Hash
	s.pending = slices.DeleteFunc(s.pending, func(t transfer) bool {
		drop := term != s.term || index-t.seen > MaxAge
		if drop {
			dropped = append(dropped, t.id)
		}
		return drop
	})
	return dropped
}

// chunk takes one part. The last one applies the command.
func (s *State) chunk(c Chunk) (Result, []Hash) {
	if r := c.check(); r != nil {
		return *r, nil
	}
	at := slices.IndexFunc(s.pending, func(t transfer) bool { return t.id == c.Transfer })
	if c.Part == 0 {
		if at >= 0 {
			s.pending = slices.Delete(s.pending, at, at+1)
		}
		if len(s.pending) >= MaxTransfers {
			return abort("%d transfers are pending already", len(s.pending)), nil
		}
		at = len(s.pending)
		s.pending = append(s.pending, newTransfer(c))
	}
	if at < 0 {
		return abort("part %d of a transfer that is not pending", c.Part), nil
	}
	t := &s.pending[at]
	var fail *Result
	switch n := int64(len(c.Data)); {
	case c.Part != len(t.data):
		fail = ptr(abort("part %d where %d belongs", c.Part, len(t.data)))
	case c.Parts != t.parts || c.Size != t.size:
		fail = ptr(abort("%d parts of %d bytes; the transfer began with %d of %d", c.Parts, c.Size, t.parts, t.size))
	case t.have+n > t.size:
		fail = ptr(reject("%d bytes of a command of %d", t.have+n, t.size))
	case s.pendingBytes()+n > MaxPending:
		fail = ptr(abort("%d bytes are pending already", s.pendingBytes()))
	default:
		t.take(c.Data, s.index)
		if c.Part < c.Parts-1 {
			return Result{Outcome: Applied}, []Hash{c.Transfer}
		}
	}
	whole := *t
	s.pending = slices.Delete(s.pending, at, at+1)
	if fail != nil {
		return *fail, nil
	}
	res, changed := s.assembled(&whole)
	return res, append(changed, c.Transfer)
}

// assembled applies a command all of whose parts are there.
func (s *State) assembled(t *transfer) (Result, []Hash) {
	if t.have != t.size || !bytes.Equal(t.sum.Sum(nil), t.id[:]) {
		return reject("%d of %d bytes arrived, or not with the SHA-256 of the transfer", t.have, t.size), nil
	}
	data := bytes.Join(t.data, nil)
	t.data = nil // twice the command is enough to hold while it is decoded
	cmd, err := Decode(data)
	if err != nil {
		return reject("%v", err), nil
	}
	if _, ok := cmd.(Chunk); ok {
		return reject("a chunk of a chunk"), nil
	}
	if r := s.admit(cmd); r.Outcome != Applied {
		return r, nil
	}
	// The digest of the bytes: the same as if they had come in one entry.
	return s.run(cmd, digests{command: t.id})
}

func (s *State) pendingBytes() (n int64) {
	for _, t := range s.pending {
		n += t.have
	}
	return n
}

func (c Chunk) check() *Result {
	switch {
	case c.Parts < 1 || c.Parts > maxParts || c.Part < 0 || c.Part >= c.Parts:
		return ptr(reject("part %d of %d; want at most %d", c.Part, c.Parts, maxParts))
	case c.Size < commandHeader || c.Size > MaxCommand:
		return ptr(reject("a command of %d bytes; the cap is %d", c.Size, MaxCommand))
	case len(c.Data) == 0 || len(c.Data) > MaxEntry:
		return ptr(reject("a part of %d bytes; want 1 to %d", len(c.Data), MaxEntry))
	}
	return nil
}

func abort(format string, args ...any) Result {
	return Result{Outcome: Aborted, Reason: fmt.Sprintf(format, args...)}
}

func ptr[T any](v T) *T { return &v }

// frozenTransfers is a copy for a view, which takes no parts.
func frozenTransfers(pending []transfer) []transfer {
	out := slices.Clone(pending)
	for i := range out {
		out[i].sum = nil
	}
	return out
}
