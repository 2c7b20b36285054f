package wire

import (
	"encoding/binary"
	"fmt"
)

const (
	maxItems = 1 << 18 // values in one message, keys included
	maxDepth = 16      // nesting of maps and arrays
)

// verify walks data as msgpack without allocating and accepts exactly one
// value whose every claimed length fits into the bytes that follow. A decoder
// that runs afterwards may therefore trust lengths. The count of values is
// bounded too: a decoded list can be two orders of magnitude larger than its
// encoding, because an empty element takes one byte.
//
// Extension types are refused: no message has any.
func verify(data []byte) error {
	if len(data) > MaxFrame {
		return fmt.Errorf("%w: %d bytes, the cap is %d", ErrTooLarge, len(data), MaxFrame)
	}
	var open [maxDepth]int // values still missing in each open container
	depth, items, pos := 0, 0, 0
	for {
		if items++; items > maxItems {
			return fmt.Errorf("%w: more than %d values", ErrTooLarge, maxItems)
		}
		t, err := readToken(data[pos:])
		if err != nil {
			return fmt.Errorf("%w at byte %d of %d", err, pos, len(data))
		}
		pos += t.header
		rest := len(data) - pos
		if t.payload > rest {
			return fmt.Errorf("%w: a field claims %d bytes where %d are left, at byte %d of %d", ErrFrame, t.payload, rest, pos, len(data))
		}
		pos += t.payload
		// Every element takes at least one byte.
		if t.elements > rest {
			return fmt.Errorf("%w: a list claims %d elements where %d bytes are left, at byte %d of %d", ErrFrame, t.elements, rest, pos, len(data))
		}
		if t.elements > 0 {
			if depth == maxDepth {
				return fmt.Errorf("%w: nested deeper than %d", ErrFrame, maxDepth)
			}
			open[depth] = t.elements
			depth++
			continue
		}
		for depth > 0 {
			if open[depth-1]--; open[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			break
		}
	}
	if pos != len(data) {
		return fmt.Errorf("%w: %d bytes follow the message", ErrFrame, len(data)-pos)
	}
	return nil
}

// token is the head of one msgpack value.
type token struct {
	header   int // bytes of the type byte and its length field or number
	payload  int // bytes of a string or binary that follow
	elements int // values of a container that follow; a map counts keys too
}

// readToken reads the head of a value, per the msgpack specification
// (https://github.com/msgpack/msgpack/blob/master/spec.md, "Formats").
func readToken(data []byte) (token, error) {
	if len(data) == 0 {
		return token{}, fmt.Errorf("%w: ends too early", ErrFrame)
	}
	c := data[0]
	switch {
	case c <= 0x7f || c >= 0xe0: // small integers
		return token{header: 1}, nil
	case c <= 0x8f: // small map
		return token{header: 1, elements: 2 * int(c&0x0f)}, nil
	case c <= 0x9f: // small array
		return token{header: 1, elements: int(c & 0x0f)}, nil
	case c <= 0xbf: // small string
		return token{header: 1, payload: int(c & 0x1f)}, nil
	}
	switch c {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return token{header: 1}, nil
	case 0xcc, 0xd0: // 8-bit numbers
		return number(data, 1)
	case 0xcd, 0xd1:
		return number(data, 2)
	case 0xca, 0xce, 0xd2:
		return number(data, 4)
	case 0xcb, 0xcf, 0xd3:
		return number(data, 8)
	case 0xc4, 0xd9: // binary and string with an 8-bit length
		n, err := length(data, 1)
		return token{header: 2, payload: n}, err
	case 0xc5, 0xda:
		n, err := length(data, 2)
		return token{header: 3, payload: n}, err
	case 0xc6, 0xdb:
		n, err := length(data, 4)
		return token{header: 5, payload: n}, err
	case 0xdc, 0xde: // array and map with a 16-bit length
		n, err := length(data, 2)
		return token{header: 3, elements: n * perElement(c)}, err
	case 0xdd, 0xdf:
		n, err := length(data, 4)
		return token{header: 5, elements: n * perElement(c)}, err
	}
	return token{}, fmt.Errorf("%w: type byte 0x%02x is not used here", ErrFrame, c)
}

func perElement(c byte) int {
	if c >= 0xde { // maps: key and value
		return 2
	}
	return 1
}

func number(data []byte, width int) (token, error) {
	if len(data) < 1+width {
		return token{}, fmt.Errorf("%w: ends inside a number", ErrFrame)
	}
	return token{header: 1 + width}, nil
}

func length(data []byte, width int) (int, error) {
	if len(data) < 1+width {
		return 0, fmt.Errorf("%w: ends inside a length", ErrFrame)
	}
	switch width {
	case 1:
		return int(data[1]), nil
	case 2:
		return int(binary.BigEndian.Uint16(data[1:])), nil
	}
	// Two times 2³²−1 fits into the int of every platform Go calls 64-bit; on
	// 32-bit ones, anything over the frame's cap is refused before it can wrap.
	n := binary.BigEndian.Uint32(data[1:])
	if n > MaxFrame {
		return 0, fmt.Errorf("%w: a field claims %d bytes or elements, the cap is %d", ErrTooLarge, n, MaxFrame)
	}
	return int(n), nil
}
