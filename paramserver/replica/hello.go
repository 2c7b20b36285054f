package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// A raft connection begins with the dialler's hello and the acceptor's answer:
//
//	hello:  magic (4), version (1), length of the rest (2), cluster, generation (8), from, to
//	answer: 0 for yes or 1 for no (1), length of the reason (2), reason
//
// Numbers are little endian; a name is its length (1) and its bytes. What raft's
// own transport sends first is a number below 16, so that a peer of the release
// before this handshake is recognised.
const (
	helloMagic   = "DMRF"
	helloVersion = 1
	helloHeader  = len(helloMagic) + 1 + 2
	maxHello     = 1 << 10 // bytes after the header
	maxReason    = 512
)

// hello says who calls whom.
type hello struct {
	cluster    string
	generation uint64
	from       string // node ID of the dialler
	to         string // node ID that the dialler expects, "" if it knows an address only
}

var errHello = errors.New("not the hello of a raft peer")

func (h hello) encode() ([]byte, error) {
	for _, name := range []string{h.cluster, h.from, h.to} {
		if len(name) > math.MaxUint8 {
			return nil, fmt.Errorf("a name of %d bytes in a hello; the cap is %d", len(name), math.MaxUint8)
		}
	}
	name := func(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }
	body := name(nil, h.cluster)
	body = binary.LittleEndian.AppendUint64(body, h.generation)
	body = name(name(body, h.from), h.to)
	b := append([]byte(helloMagic), helloVersion)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...), nil
}

// readHello reads what follows a header, which the caller has.
func readHello(head []byte, r io.Reader) (h hello, err error) {
	if len(head) != helloHeader || string(head[:len(helloMagic)]) != helloMagic {
		return h, errHello
	}
	if v := head[len(helloMagic)]; v != helloVersion {
		return h, fmt.Errorf("%w of this build: version %d, want %d", errHello, v, helloVersion)
	}
	n := int(binary.LittleEndian.Uint16(head[len(helloMagic)+1:]))
	if n > maxHello {
		return h, fmt.Errorf("%w: %d bytes, the cap is %d", errHello, n, maxHello)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return h, fmt.Errorf("%w: %w", errHello, err)
	}
	name := func() (s string) {
		if len(body) == 0 || len(body)-1 < int(body[0]) {
			err = fmt.Errorf("%w: it ends too early", errHello)
			return ""
		}
		s, body = string(body[1:1+body[0]]), body[1+body[0]:]
		return s
	}
	h.cluster = name()
	if len(body) < 8 {
		return hello{}, fmt.Errorf("%w: it ends too early", errHello)
	}
	h.generation, body = binary.LittleEndian.Uint64(body), body[8:]
	h.from, h.to = name(), name()
	if err == nil && len(body) > 0 {
		err = fmt.Errorf("%w: %d bytes follow it", errHello, len(body))
	}
	if err != nil {
		return hello{}, err
	}
	return h, nil
}

// encodeAnswer is a yes for an empty reason, a no otherwise.
func encodeAnswer(reason string) []byte {
	reason = reason[:min(len(reason), maxReason)]
	var no byte
	if reason != "" {
		no = 1
	}
	return append(binary.LittleEndian.AppendUint16([]byte{no}, uint16(len(reason))), reason...)
}

// readAnswer returns the reason of a refusal, "" for a yes.
func readAnswer(r io.Reader) (reason string, err error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	n := int(binary.LittleEndian.Uint16(head[1:]))
	if head[0] > 1 || n > maxReason || (head[0] == 0) != (n == 0) {
		return "", errors.New("not the answer of a raft peer")
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return "", err
	}
	return string(text), nil
}
