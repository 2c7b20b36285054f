// Package shape looks at msgpack before a decoder does: the decoder allocates whole
// slices by their declared length, and a declared length is anybody's claim.
package shape

import (
	"encoding/binary"
	"fmt"
	"math"
)

// MaxList is the most elements of a list that Check accepts.
const MaxList = 1 << 16

// Check walks one msgpack value without allocating and fails unless it fills b
// exactly, every declared length lies within b, no list is longer than MaxList
// and nothing nests deeper than depth.
func Check(b []byte, depth int) error {
	rest, err := skipValue(b, depth)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return fmt.Errorf("%d bytes after the end", len(rest))
	}
	return nil
}

// Skip returns what follows the first value of b, which lies in what Check accepted.
func Skip(b []byte) []byte {
	rest, err := skipValue(b, math.MaxInt)
	if err != nil {
		return nil
	}
	return rest
}

// skipValue returns what follows the first msgpack value of b.
// Format bytes: https://github.com/msgpack/msgpack/blob/master/spec.md
func skipValue(b []byte, depth int) ([]byte, error) {
	if depth < 0 {
		return nil, fmt.Errorf("nested too deeply")
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("truncated")
	}
	c, b := b[0], b[1:]
	switch {
	case c <= 0x7f || c >= 0xe0: // small integers
		return b, nil
	case c <= 0x8f: // small map
		return skipList(b, 2*uint64(c&0x0f), depth)
	case c <= 0x9f: // small array
		return skipList(b, uint64(c&0x0f), depth)
	case c <= 0xbf: // short string
		return skipBytes(b, uint64(c&0x1f))
	}
	switch c {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return b, nil
	case 0xc4, 0xd9: // bytes, string
		return skipSized(b, 1)
	case 0xc5, 0xda:
		return skipSized(b, 2)
	case 0xc6, 0xdb:
		return skipSized(b, 4)
	case 0xcc, 0xd0: // integers and floats
		return skipBytes(b, 1)
	case 0xcd, 0xd1:
		return skipBytes(b, 2)
	case 0xca, 0xce, 0xd2:
		return skipBytes(b, 4)
	case 0xcb, 0xcf, 0xd3:
		return skipBytes(b, 8)
	case 0xdc, 0xdd, 0xde, 0xdf: // arrays and maps with 16- or 32-bit counts
		width := 2
		if c&1 == 1 {
			width = 4
		}
		n, b, err := readSize(b, width)
		if err != nil {
			return nil, err
		}
		if c >= 0xde {
			n *= 2
		}
		return skipList(b, n, depth)
	}
	return nil, fmt.Errorf("format byte %#x", c)
}

func skipList(b []byte, n uint64, depth int) ([]byte, error) {
	if n > MaxList {
		return nil, fmt.Errorf("a list of %d; the cap is %d", n, MaxList)
	}
	var err error
	for range n {
		if b, err = skipValue(b, depth-1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func skipSized(b []byte, width int) ([]byte, error) {
	n, b, err := readSize(b, width)
	if err != nil {
		return nil, err
	}
	return skipBytes(b, n)
}

func skipBytes(b []byte, n uint64) ([]byte, error) {
	if n > uint64(len(b)) {
		return nil, fmt.Errorf("truncated")
	}
	return b[n:], nil
}

func readSize(b []byte, width int) (uint64, []byte, error) {
	if len(b) < width {
		return 0, nil, fmt.Errorf("truncated")
	}
	switch width {
	case 1:
		return uint64(b[0]), b[1:], nil
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), b[2:], nil
	default:
		return uint64(binary.BigEndian.Uint32(b)), b[4:], nil
	}
}
