package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// EncodeFloats appends v to dst as little-endian IEEE 754 binary32, four bytes
// an element. The bits travel unchanged, those of NaNs included.
func EncodeFloats(dst []byte, v []float32) []byte {
	off := len(dst)
	if dst == nil {
		dst = make([]byte, 4*len(v)) // append would clear it once more, in one go
	} else {
		dst = append(dst, make([]byte, 4*len(v))...)
	}
	out := dst[off:]
	for i, x := range v {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(x))
	}
	return dst
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
