package replica

import (
	"slices"
	"sync"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

const (
	// leastAhead is the size of an entry from which it is worth while to look at it
	// before its turn.
	leastAhead = 32 << 10
	// maxAhead entries wait for their turn; then the oldest gives way, and is looked
	// at when its turn comes, if it ever does.
	maxAhead = 8
)

// ahead looks at large entries, decodes and hashes them, while the log writes and
// syncs them: until the disk has answered the processor has nothing else to do. The
// state machine takes what is ready, and else does the same work in its turn.
type ahead struct {
	work chan *lookAhead

	mu      sync.Mutex
	waiting []*lookAhead // oldest first
}

// lookAhead is one entry, which whoever comes first looks at. It is known by the
// place of its bytes in memory, which nobody writes to any more.
type lookAhead struct {
	data []byte
	get  func() *fsm.Prepared
}

func newAhead() *ahead { return &ahead{work: make(chan *lookAhead, maxAhead)} }

// at is the place of an entry among those that wait, -1 if it does not; a.mu is held.
func (a *ahead) at(data []byte) int {
	return slices.IndexFunc(a.waiting, func(l *lookAhead) bool { return len(l.data) == len(data) && &l.data[0] == &data[0] })
}

// note begins to look at an entry that is on its way.
func (a *ahead) note(data []byte) {
	if len(data) < leastAhead {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at(data) >= 0 {
		return // it was proposed here, and now it is stored
	}
	l := &lookAhead{data, sync.OnceValue(func() *fsm.Prepared { return fsm.Prepare(data) })}
	if len(a.waiting) == maxAhead {
		a.waiting = slices.Delete(a.waiting, 0, 1)
	}
	a.waiting = append(a.waiting, l)
	select {
	case a.work <- l:
	default: // it is looked at in its turn
	}
}

// take returns what there is of the entry whose turn it is.
func (a *ahead) take(data []byte) *fsm.Prepared {
	if len(data) < leastAhead {
		return fsm.Prepare(data)
	}
	a.mu.Lock()
	var l *lookAhead
	if i := a.at(data); i >= 0 {
		l = a.waiting[i]
		a.waiting = slices.Delete(a.waiting, i, i+1)
	}
	a.mu.Unlock()
	if l == nil {
		return fsm.Prepare(data)
	}
	return l.get()
}

// forget drops what waits: a snapshot has overtaken it.
func (a *ahead) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = nil
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
