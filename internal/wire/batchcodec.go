package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// batchFrame is a Batch on the wire. Columns are byte strings: one length field
// each instead of a type byte per element, which is what makes a batch cheap to
// encode and lets a decoder check its size before it allocates.
type batchFrame struct {
	FirstSeq     uint64 `msgpack:"q"`
	Epoch        uint64 `msgpack:"e"`
	Version      uint64 `msgpack:"v"`
	Count        uint32 `msgpack:"n"` // trajectories
	Width        uint8  `msgpack:"w"` // bytes per action: 1, 2 or 4, the least that holds the largest
	Lengths      []byte `msgpack:"l"` // Count unsigned varints
	Actions      []byte `msgpack:"a"` // little-endian, Width bytes each
	LogReward    []byte `msgpack:"r"` // little-endian float64
	LogBehaviour []byte `msgpack:"b"` // little-endian float64
}

// EncodeBatch appends the wire form of b to dst. A batch whose columns do not
// fit together is ErrFrame, one over a cap ErrTooLarge; dst is returned as it
// was then.
func EncodeBatch(dst []byte, b *Batch) ([]byte, error) {
	if err := b.check(); err != nil {
		return dst, err
	}
	out := appendBatchFrame(slices.Grow(dst, batchFrameSize(b)), b)
	if n := len(out) - len(dst); n > MaxFrame {
		return dst, fmt.Errorf("%w: a batch takes %d bytes, the cap is %d", ErrTooLarge, n, MaxFrame)
	}
	return out, nil
}

// DecodeBatch parses what EncodeBatch wrote, and only that: the columns must
// fit together and keep the caps, which are checked before anything of their
// size is allocated. It keeps no reference to data.
func DecodeBatch(data []byte) (*Batch, error) {
	f, ok := readBatchFrame(data)
	if !ok {
		f = batchFrame{}
		if err := Unmarshal(data, &f); err != nil {
			return nil, err
		}
	}
	n := int(f.Count)
	switch {
	case f.Count > MaxTrajectories:
		return nil, fmt.Errorf("%w: %d trajectories, the cap is %d", ErrTooLarge, f.Count, MaxTrajectories)
	case f.Width != 1 && f.Width != 2 && f.Width != 4:
		return nil, fmt.Errorf("%w: actions of %d bytes; want 1, 2 or 4", ErrFrame, f.Width)
	case len(f.Actions)%int(f.Width) != 0:
		return nil, fmt.Errorf("%w: %d bytes are not a whole number of actions of %d bytes", ErrFrame, len(f.Actions), f.Width)
	case len(f.Actions)/int(f.Width) > MaxBatchActions:
		return nil, fmt.Errorf("%w: %d actions in a batch, the cap is %d", ErrTooLarge, len(f.Actions)/int(f.Width), MaxBatchActions)
	case len(f.LogReward) != 8*n || len(f.LogBehaviour) != 8*n:
		return nil, fmt.Errorf("%w: %d trajectories, but %d bytes of log-rewards and %d of log-behaviours; want %d", ErrFrame, n, len(f.LogReward), len(f.LogBehaviour), 8*n)
	case len(f.Lengths) < n: // a varint takes at least one byte
		return nil, fmt.Errorf("%w: %d trajectories, but %d bytes of lengths", ErrFrame, n, len(f.Lengths))
	}
	lengths, err := readLengths(f.Lengths, n)
	if err != nil {
		return nil, err
	}
	b := &Batch{
		FirstSeq:     f.FirstSeq,
		Epoch:        f.Epoch,
		Version:      f.Version,
		Lengths:      lengths,
		Actions:      readActions(f.Actions, f.Width),
		LogReward:    readDoubles(f.LogReward),
		LogBehaviour: readDoubles(f.LogBehaviour),
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	return b, nil
}

func readLengths(data []byte, n int) ([]int32, error) {
	out := make([]int32, n)
	for i := range out {
		l, size := binary.Uvarint(data)
		if size <= 0 {
			return nil, fmt.Errorf("%w: the length of trajectory %d of %d is cut off or too long", ErrFrame, i+1, n)
		}
		if l > MaxActions {
			return nil, fmt.Errorf("%w: trajectory %d of %d has %d actions, the cap is %d", ErrTooLarge, i+1, n, l, MaxActions)
		}
		out[i] = int32(l)
		data = data[size:]
	}
	if len(data) != 0 {
		return nil, fmt.Errorf("%w: %d bytes follow the lengths of %d trajectories", ErrFrame, len(data), n)
	}
	return out, nil
}

// actionWidth returns the least of 1, 2 and 4 bytes that holds every action, without
// its sign.
func actionWidth(actions []int32) uint8 {
	var most uint32
	for _, a := range actions {
		most = max(most, uint32(a))
	}
	switch {
	case most <= math.MaxUint8:
		return 1
	case most <= math.MaxUint16:
		return 2
	}
	return 4
}

func appendActions(dst []byte, actions []int32, width uint8) []byte {
	switch width {
	case 1:
		for _, a := range actions {
			dst = append(dst, byte(a))
		}
	case 2:
		for _, a := range actions {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(a))
		}
	default:
		for _, a := range actions {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(a))
		}
	}
	return dst
}

// readActions is the inverse of appendActions. A four-byte action over 2³¹−1 comes
// out negative: a coordinate, or what no environment of listed actions allows.
func readActions(data []byte, width uint8) []int32 {
	out := make([]int32, len(data)/int(width))
	switch width {
	case 1:
		for i, a := range data {
			out[i] = int32(a)
		}
	case 2:
		for i := range out {
			out[i] = int32(binary.LittleEndian.Uint16(data[2*i:]))
		}
	default:
		for i := range out {
			out[i] = int32(binary.LittleEndian.Uint32(data[4*i:]))
		}
	}
	return out
}
