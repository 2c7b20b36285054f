package fsm

import (
	"github.com/driftmesh/driftmesh/internal/piecewise"
	"github.com/driftmesh/driftmesh/internal/shape"
	"github.com/driftmesh/driftmesh/internal/twinsha"
)

// Prepared is a log entry as far as it can be looked at without a state: decoded,
// and with the hashes of its bytes. That is nearly all the work of a large Commit,
// and it may be done while the entry is on its way to the disk.
type Prepared struct {
	data []byte
	cmd  any
	err  error // of decoding
	sums digests
}

// digests are the hashes of a command's bytes, and what a Commit's blobs show by
// themselves, if blobs.
type digests struct {
	command         Hash
	params, private Hash
	notFinite       int // the first such parameter, -1 if there is none
	blobs           bool
}

// Prepare looks at a log entry. data must not be written to any more: what the
// entry leaves in a state are parts of it.
func Prepare(data []byte) *Prepared {
	p := &Prepared{data: data}
	p.cmd, p.err = decodeEntry(data)
	if c, ok := p.cmd.(Commit); ok {
		command, blobs := twinsha.Sum256(data, c.Params, c.Private)
		p.sums = digests{command: command, params: blobs[0], private: blobs[1], notFinite: notFinite(c.Params), blobs: true}
	} else {
		p.sums.command = piecewise.Sum256(data)
	}
	return p
}

// Of says whether p was prepared of these very bytes, in the same place.
func (p *Prepared) Of(data []byte) bool {
	return len(p.data) == len(data) && (len(data) == 0 || &p.data[0] == &data[0])
}

// hashes returns those of a Commit's blobs, which may be there already.
func (d *digests) hashes(c Commit) (params, private Hash) {
	if d.blobs {
		return d.params, d.private
	}
	return piecewise.Sum256(c.Params), piecewise.Sum256(c.Private)
}

// leastLifted is the size from which the bytes of a command are not copied when it
// is decoded.
const leastLifted = 4 << 10

// lift takes the large byte strings with these one-letter keys out of an encoded
// map, which shape has accepted: rest is the map with empty ones in their place.
// Decoding rest and putting the strings back is decoding body, without a copy of
// the strings. ok is false where there are none, or a key comes twice.
func lift(body []byte, keys string) (rest []byte, lifted [][]byte, ok bool) {
	if len(body) == 0 || body[0]&0xf0 != 0x80 { // a small map
		return nil, nil, false
	}
	lifted = make([][]byte, len(keys))
	var seen [256]bool
	left := body[1:]
	kept := body // the part that is not yet in rest begins here
	for range body[0] & 0x0f {
		key := left
		left = shape.Skip(left)
		value := left
		left = shape.Skip(left)
		if key[0]&0xe0 != 0xa0 { // a short string: there are other ways to write the same key
			return nil, nil, false
		}
		if key[0] != 0xa1 { // of one byte
			continue
		}
		letter := key[1]
		if seen[letter] {
			return nil, nil, false
		}
		seen[letter] = true
		for i := range len(keys) {
			if keys[i] != letter || value[0] != 0xc5 && value[0] != 0xc6 { // bytes whose length has 2 or 4 bytes
				continue
			}
			head := 3
			if value[0] == 0xc6 {
				head = 5
			}
			blob := value[head : len(value)-len(left)]
			if len(blob) < leastLifted {
				continue
			}
			rest = append(rest, kept[:len(kept)-len(value)]...)
			rest = append(rest, 0xc4, 0) // no bytes
			kept = left
			lifted[i], ok = blob[:len(blob):len(blob)], true
		}
	}
	return append(rest, kept...), lifted, ok
}
