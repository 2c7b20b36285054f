package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

var (
	// ErrFrame marks bytes that are not a well-formed message.
	ErrFrame = errors.New("wire: malformed message")
	// ErrTooLarge marks a message, or a part of one, that exceeds a cap of this package.
	ErrTooLarge = errors.New("wire: message too large")
)

// bulky is a message dominated by byte columns; PayloadSize lets Marshal
// allocate its buffer once instead of doubling up to it.
type bulky interface{ payloadSize() int }

func (s *Snapshot) payloadSize() int   { return len(s.Params) }
func (s *StateReply) payloadSize() int { return len(s.Params) + len(s.Private) + len(s.Info.Spec) }
func (p *StatePart) payloadSize() int  { return len(p.Data) }
func (u *Uplink) payloadSize() int     { return len(u.Batch) }

// Marshal returns the msgpack form of a message: a map keyed by the short field
// names of its struct tags, with the smallest integer encodings. A message
// longer than MaxFrame is ErrTooLarge.
func Marshal(v any) ([]byte, error) {
	payload := 0
	if b, ok := v.(bulky); ok {
		payload = b.payloadSize()
		if payload > MaxFrame { // refuse before the copy is made
			return nil, fmt.Errorf("%w: %T carries %d bytes, the cap is %d", ErrTooLarge, v, payload, MaxFrame)
		}
	}
	var buf bytes.Buffer
	buf.Grow(payload + 256)
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(&buf)
	enc.UseCompactInts(true)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("wire: encode %T: %w", v, err)
	}
	if buf.Len() > MaxFrame {
		return nil, fmt.Errorf("%w: %T takes %d bytes, the cap is %d", ErrTooLarge, v, buf.Len(), MaxFrame)
	}
	return buf.Bytes(), nil
}

// Unmarshal parses one message into v, a pointer to a struct. It keeps no
// reference to data. Fields unknown to v are skipped, so that an older node
// reads a newer one; missing fields stay zero. Malformed data is ErrFrame, data
// over a cap ErrTooLarge, and neither allocates more than the data's own size
// warrants: claimed lengths are checked against the bytes present first.
func Unmarshal(data []byte, v any) error {
	if err := verify(data); err != nil {
		return err
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(data))
	// The library would grow long byte columns piecemeal because it cannot trust
	// the claimed length. verify has, so one exact allocation is safe.
	dec.DisableAllocLimit(true)
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: not a %T: %w", ErrFrame, v, err)
	}
	return nil
}
