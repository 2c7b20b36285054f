// Package bf16 converts parameters between float32 and bfloat16: the upper half
// of a float32, with its range and eight bits of precision. It halves what
// publication sends; the committed state stays float32.
package bf16

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrFormat marks bytes that are not a whole number of values, or hold one that
// is not finite.
var ErrFormat = errors.New("bf16: malformed parameters")

const (
	exponent = 0x7f80 // of a bfloat16, all ones: infinity or NaN
	largest  = 0x7f7f // finite magnitude
	sign     = 0x8000
)

// Round returns the bfloat16 nearest to x, of two equally near ones the even
// one. A finite x beyond the largest finite bfloat16 becomes that one, not
// infinity. NaN stays NaN, and infinity infinity.
func Round(x float32) uint16 {
	bits := math.Float32bits(x)
	top := uint16(bits >> 16)
	if top&exponent == exponent {
		if bits&0x007fffff != 0 {
			return top | 0x40 // the mantissa bits that made it NaN may be in the lower half
		}
		return top
	}
	rounded := uint16((bits + 0x7fff + bits>>16&1) >> 16)
	if rounded&exponent == exponent {
		return rounded&sign | largest
	}
	return rounded
}

// Float returns the value of a bfloat16, exactly.
func Float(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// Encode turns little-endian float32 into little-endian bfloat16, half as many
// bytes. Only finite values can be encoded.
func Encode(float32s []byte) ([]byte, error) {
	if len(float32s)%4 != 0 {
		return nil, fmt.Errorf("%w: %d bytes are not a whole number of float32", ErrFormat, len(float32s))
	}
	out := make([]byte, len(float32s)/2)
	for i := 0; i < len(out); i += 2 {
		b := Round(math.Float32frombits(binary.LittleEndian.Uint32(float32s[2*i:])))
		if b&exponent == exponent {
			return nil, fmt.Errorf("%w: parameter %d is not finite", ErrFormat, i/2)
		}
		binary.LittleEndian.PutUint16(out[i:], b)
	}
	return out, nil
}

// Decode is the way back, to float32 that bfloat16 can represent.
func Decode(data []byte) ([]float32, error) {
	if len(data)%2 != 0 {
		return nil, fmt.Errorf("%w: %d bytes are not a whole number of bfloat16", ErrFormat, len(data))
	}
	out := make([]float32, len(data)/2)
	for i := range out {
		b := binary.LittleEndian.Uint16(data[2*i:])
		if b&exponent == exponent {
			return nil, fmt.Errorf("%w: parameter %d is not finite", ErrFormat, i)
		}
		out[i] = Float(b)
	}
	return out, nil
}
