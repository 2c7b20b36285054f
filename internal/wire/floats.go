package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"github.com/driftmesh/driftmesh/internal/piecewise"
)

// EncodeFloats appends v to dst as little-endian IEEE 754 binary32, four bytes
// an element. The bits travel unchanged, those of NaNs included.
func EncodeFloats(dst []byte, v []float32) []byte {
	if dst == nil {
		dst = make([]byte, 0, 4*len(v))
	}
	for b := FloatBytes(v); ; { // a piece at a time, see piecewise
		n := min(len(b), piecewise.Size)
		dst = append(dst, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return dst
		}
	}
}

// FloatBytes is what EncodeFloats appends. On most machines it is the memory of v
// itself: it is not to be written to, and to be used before v changes.
func FloatBytes(v []float32) []byte {
	if len(v) == 0 {
		return []byte{}
	}
	if littleEndian {
		return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
	}
	return swapped(v)
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// swapped is FloatBytes on the other machines.
func swapped(v []float32) []byte {
	out := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(x))
	}
	return out
}

// DecodeFloats is the inverse of EncodeFloats. A length that is not a multiple
// of four is ErrFrame, more than MaxParameters bytes ErrTooLarge.
func DecodeFloats(data []byte) ([]float32, error) {
	if len(data) > MaxParameters {
		return nil, fmt.Errorf("%w: %d bytes of float32, the cap is %d", ErrTooLarge, len(data), MaxParameters)
	}
	if len(data)%4 != 0 {
		return nil, fmt.Errorf("%w: %d bytes are not a whole number of float32", ErrFrame, len(data))
	}
	out := make([]float32, len(data)/4)
	if littleEndian {
		for into := FloatBytes(out); len(into) > 0; { // a piece at a time, see piecewise
			n := copy(into[:min(len(into), piecewise.Size)], data)
			into, data = into[n:], data[n:]
		}
		return out, nil
	}
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out, nil
}

// appendDoubles appends v as little-endian binary64.
func appendDoubles(dst []byte, v []float64) []byte {
	for _, x := range v {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(x))
	}
	return dst
}

// readDoubles reads len(data)/8 numbers; the caller has checked the length.
func readDoubles(data []byte) []float64 {
	out := make([]float64, len(data)/8)
	for i := range out {
		out[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
	}
	return out
}
