package replica

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/hashicorp/raft"
)

// machine is the fsm.State behind raft's FSM interface: it adds the lock, the
// notification and the byte count that the pure state does without.
type machine struct {
	fail          func(error) // stops the node
	full          chan struct{}
	snapshotBytes int64
	garble        func(index uint64, command []byte) []byte // Config.ApplyFault; may be nil
	ahead         *ahead

	mu      sync.RWMutex
	state   *fsm.State
	seen    uint64        // every log entry up to it has passed, not only commands
	changed chan struct{} // closed and replaced at every change
	broken  bool          // an entry could not be applied: the state is frozen
	bytes   int64         // of entries since the last snapshot
	entries int64
}

var (
	_ raft.FSM                = (*machine)(nil)
	_ raft.ConfigurationStore = (*machine)(nil)
)

func newMachine(snapshotBytes int64, fail func(error)) *machine {
	return &machine{
		fail:          fail,
		full:          make(chan struct{}, 1),
		snapshotBytes: snapshotBytes,
		ahead:         newAhead(),
		state:         fsm.New(),
		changed:       make(chan struct{}),
	}
}

// Apply implements raft.FSM. It answers with an fsm.Result, or with an error
// if the node had to stop.
func (m *machine) Apply(log *raft.Log) any {
	data := log.Data
	if m.garble != nil {
		data = m.garble(log.Index, data)
	}
	prepared := m.ahead.take(data) // readers need not wait for it
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errors.New("the replica has stopped")
	}
	res, err := m.state.ApplyPrepared(log.Index, log.Term, prepared)
	if err != nil {
		m.broken = true
		m.fail(err)
		return err
	}
	m.bytes += int64(len(log.Data))
	m.entries++
	if m.bytes >= m.snapshotBytes {
		select {
		case m.full <- struct{}{}:
		default:
		}
	}
	m.pass(log.Index)
	return res
}

// StoreConfiguration implements raft.ConfigurationStore: membership entries
// advance the log without reaching Apply.
func (m *machine) StoreConfiguration(index uint64, _ raft.Configuration) { m.note(index) }

// note records that the log has been applied through index.
func (m *machine) note(index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pass(index)
}

func (m *machine) pass(index uint64) {
	m.seen = max(m.seen, index)
	close(m.changed)
	m.changed = make(chan struct{})
}

// Snapshot implements raft.FSM.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return nil, errors.New("the replica has stopped")
	}
	m.bytes, m.entries = 0, 0
	return frozen{m.state.Snapshot()}, nil
}

// Restore implements raft.FSM. The state changes only if the whole snapshot is good.
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	state, err := fsm.DecodeSnapshot(bufio.NewReaderSize(r, 1<<16))
	if err != nil {
		m.fail(err)
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
	m.bytes, m.entries = 0, 0
	m.ahead.forget()
	m.pass(state.Index())
	return nil
}

// trailing is how many log entries of the recent mean size fit into limit
// bytes, at least one.
func (m *machine) trailing(limit int64) uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.bytes == 0 {
		return 1
	}
	return uint64(max(1, limit*m.entries/m.bytes))
}

// due says whether at least so many bytes of entries are in no snapshot.
func (m *machine) due(bytes int64) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.bytes >= bytes
}

func (m *machine) read(f func(*fsm.State)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f(m.state)
}

// progress returns how far the log is applied and a channel closed at the next change.
func (m *machine) progress() (uint64, <-chan struct{}) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.seen, m.changed
}

// applied returns the log index of the last command in the state and a channel
// closed at the next change.
func (m *machine) applied() (uint64, <-chan struct{}) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.Index(), m.changed
}

// frozen is a view on its way to disk.
type frozen struct{ view *fsm.View }

// Persist implements raft.FSMSnapshot.
func (f frozen) Persist(sink raft.SnapshotSink) error {
	w := bufio.NewWriterSize(sink, 1<<16)
	err := f.view.Encode(w)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("persist snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (frozen) Release() {}
