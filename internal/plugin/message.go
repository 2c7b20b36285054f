package plugin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// Protocol is the version of the messages; docs/PYTHON.md describes them.
const Protocol = 1

// MaxFrame bounds a message in both directions, in bytes.
const MaxFrame = 16 << 20

// ErrProtocol says that a plugin answered what no plugin should.
var ErrProtocol = errors.New("breaks the plugin protocol")

// Operations.
const (
	OpHello  = "hello"  // → Hello fields, and the first state of an environment
	OpReward = "reward" // Texts or States → LogRewards
	OpStep   = "step"   // States, Actions → Nodes
	OpUndo   = "undo"   // States, Actions → Nodes
	OpParse  = "parse"  // Texts → Nodes
)

// Request is one message to a plugin.
type Request struct {
	ID       uint64         `msgpack:"id"`
	Op       string         `msgpack:"op"`
	Protocol int            `msgpack:"protocol,omitempty"` // OpHello
	Params   map[string]any `msgpack:"params,omitempty"`   // OpHello: of the job
	Texts    []string       `msgpack:"texts,omitempty"`
	States   [][]byte       `msgpack:"states,omitempty"`
	Actions  []byte         `msgpack:"actions,omitempty"` // int32, little-endian
}

// Len is the number of items that the request is about.
func (r *Request) Len() int { return max(len(r.Texts), len(r.States)) }

// slice is the request for items lo to hi.
func (r *Request) slice(lo, hi int) *Request {
	part := *r
	if r.Texts != nil {
		part.Texts = r.Texts[lo:hi]
	}
	if r.States != nil {
		part.States = r.States[lo:hi]
	}
	if r.Actions != nil {
		part.Actions = r.Actions[4*lo : 4*hi]
	}
	return &part
}

// Reply is one answer: of every request one, in order.
type Reply struct {
	ID uint64 `msgpack:"id"`
	// Error, when not empty, says why the request as a whole has no answer.
	Error string `msgpack:"error"`
	// Errors says which items have none, and why.
	Errors []ItemError `msgpack:"errors"`

	LogRewards []byte `msgpack:"log_rewards"` // float64, little-endian, one an item
	Nodes      `msgpack:",inline"`

	Protocol int    `msgpack:"protocol"`
	Kind     string `msgpack:"kind"` // KindReward or KindEnv
	Name     string `msgpack:"name"`
	Data     string `msgpack:"data"` // a hash of what answers depend on
	Spec     Spec   `msgpack:"spec"` // KindEnv
}

// Kinds of plugins.
const (
	KindReward = "reward"
	KindEnv    = "env"
)

// Spec is the shape of an environment in a plugin; see envs.Spec.
type Spec struct {
	Actions    int  `msgpack:"actions"` // without the stop action
	Stop       bool `msgpack:"stop"`    // there is one
	Features   int  `msgpack:"features"`
	MaxSteps   int  `msgpack:"max_steps"`
	Positions  int  `msgpack:"positions"`
	Vocabulary int  `msgpack:"vocabulary"`
}

// Nodes are states, one an item, as columns: with n items, A forward and B
// backward actions.
type Nodes struct {
	States   [][]byte `msgpack:"states"`
	Forward  []byte   `msgpack:"forward"`  // n × A: 1 where legal
	Backward []byte   `msgpack:"backward"` // n × B: 1 where legal
	Terminal []byte   `msgpack:"terminal"` // n: 1 for an object
	Active   []byte   `msgpack:"active"`   // int32: features that are on, of all items
	Offsets  []byte   `msgpack:"offsets"`  // n + 1 int32: item i has Active[Offsets[i]:Offsets[i+1]]
	Texts    []string `msgpack:"texts"`
}

// ItemError is one item's fault.
type ItemError struct {
	_msgpack struct{} `msgpack:",as_array"`
	Item     int
	Text     string
}

// writeFrame sends a message; buf is reused.
func writeFrame(w io.Writer, req *Request, buf []byte) ([]byte, error) {
	body, err := msgpack.Marshal(req)
	if err != nil {
		return buf, fmt.Errorf("encode request: %w", err)
	}
	if len(body) > MaxFrame {
		return buf, fmt.Errorf("%w: a request of %d bytes; the cap is %d: make reward.batch smaller", errOversized, len(body), MaxFrame)
	}
	buf = append(binary.BigEndian.AppendUint32(buf[:0], uint32(len(body))), body...)
	_, err = w.Write(buf)
	return buf, err
}

// errOversized is the fault of the request and no plugin's.
var errOversized = errors.New("too large")

// readFrame receives a message and checks it before it is decoded.
func readFrame(r io.Reader, into *Reply, buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return buf, err
	}
	size := int(binary.BigEndian.Uint32(head[:]))
	if size > MaxFrame {
		return buf, fmt.Errorf("%w: a frame of %d bytes (it begins %q); the cap is %d", ErrProtocol, size, head[:], MaxFrame)
	}
	// The buffer grows with what arrives, not with what is promised.
	buf = buf[:0]
	for len(buf) < size {
		from := len(buf)
		more := min(size-from, max(64<<10, from))
		if cap(buf) < from+more {
			buf = append(make([]byte, 0, min(size, 2*(from+more))), buf...)
		}
		buf = buf[:from+more]
		if _, err := io.ReadFull(r, buf[from:]); err != nil {
			return buf, err
		}
	}
	if err := wire.VerifyForeign(buf); err != nil {
		return buf, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	*into = Reply{}
	if err := msgpack.Unmarshal(buf, into); err != nil {
		return buf, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	into.plain()
	return buf, nil
}

// check refuses an answer that does not fit its request of n items.
func (r *Reply) check(req *Request) error {
	n := req.Len()
	if r.ID != req.ID {
		return fmt.Errorf("%w: answer %d to request %d", ErrProtocol, r.ID, req.ID)
	}
	if r.Error != "" {
		return nil
	}
	for _, e := range r.Errors {
		if e.Item < 0 || e.Item >= n {
			return fmt.Errorf("%w: an error of item %d of %d", ErrProtocol, e.Item, n)
		}
	}
	switch req.Op {
	case OpReward:
		if len(r.LogRewards) != 8*n {
			return fmt.Errorf("%w: %d bytes of rewards for %d objects; want %d", ErrProtocol, len(r.LogRewards), n, 8*n)
		}
	case OpStep, OpUndo, OpParse:
		if len(r.Nodes.States) != n {
			return fmt.Errorf("%w: %d states for %d items", ErrProtocol, len(r.Nodes.States), n)
		}
	}
	return nil
}

// floats reads a column of float64.
func floats(column []byte, dst []float64) {
	for i := range dst {
		dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(column[8*i:]))
	}
}
