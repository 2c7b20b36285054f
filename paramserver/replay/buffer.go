// Package replay holds buffers of terminal objects that were trained on before,
// bounded in bytes. An update draws objects from its buffer and gives each a new
// trajectory by sampling backward. The kinds differ in what they keep and in how
// they draw; docs/REPLAY.md has the formulas.
//
// Buffers are pure: what one holds is a function of the seed and of what was
// inserted, what it draws a function of that and of the random stream it is
// given. They are for one goroutine.
package replay

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/driftmesh/driftmesh/internal/job"
)

// Item is one terminal object.
type Item struct {
	Text      string  // the environment's textual form
	LogReward float64 // log R, in nats, without the job's exponent
	Version   uint64  // of the parameters that its first trajectory was sampled with
	Worker    string  // who sampled it
	Insert    uint64  // number of the insertion, from 1; rises from insertion to insertion
}

// Buffer keeps items within a bound in bytes.
type Buffer interface {
	// Insert offers an item. features are the active features of the object,
	// ascending; only diverse looks at them, and keeps a copy. The error is
	// ErrItem, and nothing has changed then.
	Insert(item Item, features []int32) error
	// Draw appends n items, drawn independently by the kind's law, to dst; none
	// from an empty buffer.
	Draw(r *rand.Rand, n int, dst []Item) []Item
	// Len is the number of items kept, Bytes the memory that they and the
	// buffer's tables take, and Limit what Bytes never exceeds.
	Len() int
	Bytes() int64
	Limit() int64
	// Items lists what is kept in the order of insertion.
	Items() []Item
	// MarshalBinary encodes the contents; Restore replaces them by such an
	// encoding of a buffer of the same configuration. After an error, which
	// wraps ErrState, the buffer is as it was.
	MarshalBinary() ([]byte, error)
	Restore(data []byte) error
}

var (
	// ErrItem is wrapped by errors about items that no buffer keeps.
	ErrItem = errors.New("replay: not an object that can be kept")
	// ErrState is wrapped by errors about encodings that do not fit.
	ErrState = errors.New("replay: state does not fit this buffer")
)

// New makes the buffer that a job describes, nil for kind none. The seed is the
// job's: what uniform keeps depends on it.
func New(c job.Replay, seed uint64) (Buffer, error) {
	switch c.Kind {
	case "none", "":
		return nil, nil
	case "fifo":
		return newRing(c.Bytes, laws{uniform: 1}), nil
	case "reward":
		return newRing(c.Bytes, laws{reward: 1, exponent: c.RewardExponent}), nil
	case "mixture":
		return newRing(c.Bytes, laws{recent: c.Recent, reward: 1 - c.Recent, exponent: c.RewardExponent}), nil
	case "uniform":
		return newReservoir(c.Bytes, seed), nil
	case "diverse":
		return newDiverse(c.Bytes, c.TopK, c.MinDistance), nil
	}
	return nil, fmt.Errorf("replay: no kind %q", c.Kind)
}

// maxText is the longest textual form, in bytes, that is kept: as long as a
// trajectory's may be on its way through the archive.
const maxText = 1 << 20

func check(item *Item) error {
	switch {
	case item.Text == "" || len(item.Text) > maxText:
		return fmt.Errorf("%w: a text of %d bytes; want 1 to %d", ErrItem, len(item.Text), maxText)
	case math.IsNaN(item.LogReward) || math.IsInf(item.LogReward, 0):
		return fmt.Errorf("%w: %.80q has log-reward %v", ErrItem, item.Text, item.LogReward)
	case item.Insert == 0:
		return fmt.Errorf("%w: %.80q has no insertion number", ErrItem, item.Text)
	}
	return nil
}
