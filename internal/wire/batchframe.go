package wire

import (
	"encoding/binary"
	"math"
)

// Batches are most of what a mesh sends, so their frames are written and read
// without the library: one allocation instead of two for each column. The bytes are
// the library's; tests hold the two against each other.

// batchFields is the number of fields of a batchFrame.
const batchFields = 9

// appendBatchFrame appends the frame of a batch that has been checked.
func appendBatchFrame(dst []byte, b *Batch) []byte {
	width := actionWidth(b.Actions)
	lengths := 0
	for _, l := range b.Lengths {
		lengths += uvarintSize(uint64(l))
	}
	dst = append(dst, 0x80|batchFields)
	dst = appendUint(appendKey(dst, 'q'), b.FirstSeq)
	dst = appendUint(appendKey(dst, 'e'), b.Epoch)
	dst = appendUint(appendKey(dst, 'v'), b.Version)
	dst = appendUint(appendKey(dst, 'n'), uint64(b.Len()))
	dst = appendUint(appendKey(dst, 'w'), uint64(width))
	dst = appendBin(appendKey(dst, 'l'), lengths)
	for _, l := range b.Lengths {
		dst = binary.AppendUvarint(dst, uint64(l))
	}
	dst = appendBin(appendKey(dst, 'a'), int(width)*len(b.Actions))
	dst = appendActions(dst, b.Actions, width)
	dst = appendBin(appendKey(dst, 'r'), 8*len(b.LogReward))
	dst = appendDoubles(dst, b.LogReward)
	dst = appendBin(appendKey(dst, 'b'), 8*len(b.LogBehaviour))
	return appendDoubles(dst, b.LogBehaviour)
}

// batchFrameSize is at least the length of a batch's frame, and not much more.
func batchFrameSize(b *Batch) int {
	const heads = batchFields*(2+9) + 1
	return heads + 3*b.Len() + int(actionWidth(b.Actions))*len(b.Actions) + 16*b.Len()
}

func uvarintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func appendKey(dst []byte, key byte) []byte { return append(dst, 0xa1, key) }

// appendUint writes a number in the fewest bytes.
func appendUint(dst []byte, v uint64) []byte {
	switch {
	case v <= math.MaxInt8:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

// appendBin writes the head of n bytes.
func appendBin(dst []byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(dst, 0xc4, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xc5), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xc6), uint32(n))
}

// readBatchFrame reads what appendBatchFrame writes; its columns are views of data.
// Anything else, well-formed or not, is left to the library.
func readBatchFrame(data []byte) (f batchFrame, ok bool) {
	if len(data) > MaxFrame || len(data) == 0 || data[0] != 0x80|batchFields {
		return f, false
	}
	r := frameReader{data[1:], true}
	f.FirstSeq = r.number('q', math.MaxUint64)
	f.Epoch = r.number('e', math.MaxUint64)
	f.Version = r.number('v', math.MaxUint64)
	f.Count = uint32(r.number('n', math.MaxUint32))
	f.Width = uint8(r.number('w', math.MaxUint8))
	f.Lengths, f.Actions = r.column('l'), r.column('a')
	f.LogReward, f.LogBehaviour = r.column('r'), r.column('b')
	return f, r.ok && len(r.rest) == 0
}

// frameReader reads fields in the order in which they are due; ok is false once one
// was not.
type frameReader struct {
	rest []byte
	ok   bool
}

// field steps over a key and reads the head of its value.
func (r *frameReader) field(key byte) (head token) {
	if !r.ok || len(r.rest) < 3 || r.rest[0] != 0xa1 || r.rest[1] != key {
		r.ok = false
		return token{}
	}
	r.rest = r.rest[2:]
	head, err := readToken(r.rest)
	r.ok = err == nil && head.payload <= len(r.rest)-head.header
	return head
}

func (r *frameReader) number(key byte, most uint64) (v uint64) {
	head := r.field(key)
	if !r.ok {
		return 0
	}
	switch c := r.rest[0]; {
	case c <= math.MaxInt8:
		v = uint64(c)
	case c >= 0xcc && c <= 0xcf: // unsigned, big-endian
		for _, b := range r.rest[1:head.header] {
			v = v<<8 | uint64(b)
		}
	default:
		r.ok = false
	}
	r.ok = r.ok && v <= most
	r.rest = r.rest[head.header:]
	return v
}

func (r *frameReader) column(key byte) []byte {
	head := r.field(key)
	if !r.ok || r.rest[0] < 0xc4 || r.rest[0] > 0xc6 {
		r.ok = false
		return nil
	}
	end := head.header + head.payload
	out := r.rest[head.header:end:end]
	r.rest = r.rest[end:]
	return out
}
