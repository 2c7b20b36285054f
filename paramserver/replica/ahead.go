package replica

import (
	"sync"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

const (
	// leastAhead is the size of an entry from which it is worth while to look at it
	// before its turn.
	leastAhead = 32 << 10
	// maxPrepared entries wait for their turn; those beyond are looked at when it
	// comes.
	maxPrepared = 16
)

// ahead looks at large entries, decodes and hashes them, while the log writes and
// syncs them: until the disk has answered the processor has nothing else to do. The
// state machine takes what is ready, and else does the same work in its turn.
type ahead struct {
	work chan *lookAhead

	mu      sync.Mutex
	waiting map[uint64]*lookAhead // by log index
}

// lookAhead is one entry, which whoever comes first looks at.
type lookAhead struct {
	data []byte
	get  func() *fsm.Prepared
}

func newAhead() *ahead {
	return &ahead{work: make(chan *lookAhead, maxPrepared), waiting: map[uint64]*lookAhead{}}
}

// stored notes an entry that is being stored, in the place of any other with its index.
func (a *ahead) stored(index uint64, data []byte) {
	if len(data) < leastAhead {
		return
	}
	l := &lookAhead{data, sync.OnceValue(func() *fsm.Prepared { return fsm.Prepare(data) })}
	a.mu.Lock()
	delete(a.waiting, index)
	full := len(a.waiting) >= maxPrepared
	if !full {
		a.waiting[index] = l
	}
	a.mu.Unlock()
	if full {
		return
	}
	select {
	case a.work <- l:
	default: // it is looked at in its turn
	}
}

// take returns what there is of the entry whose turn it is. Nothing up to its index
// is wanted any more.
func (a *ahead) take(index uint64, data []byte) *fsm.Prepared {
	l := a.passed(index)
	if l != nil {
		if p := l.get(); p.Of(data) {
			return p
		}
	}
	return fsm.Prepare(data)
}

// passed forgets the entries up to an index and returns the last of them, if it was
// noted.
func (a *ahead) passed(index uint64) *lookAhead {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.waiting[index]
	for i := range a.waiting {
		if i <= index {
			delete(a.waiting, i)
		}
	}
	return last
}

// run looks at entries until stop or failed is closed.
func (a *ahead) run(stop, failed <-chan struct{}) {
	for {
		select {
		case l := <-a.work:
			l.get()
		case <-stop:
			return
		case <-failed:
			return
		}
	}
}
