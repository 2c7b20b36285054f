package cluster

import (
	"maps"
	"time"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// AnnounceVersion tells the mesh that a version of a job is published. It
// returns at once; announcements of one job are coalesced to two a second.
func (m *Mesh) AnnounceVersion(job string, p wire.Position) {
	m.offerHints([]hint{{Job: job, Position: p}})
}

// Hints returns the newest version of each job that anyone announced, and a
// channel that is closed once that changes. Hints prove nothing; they say when
// it is worth asking.
func (m *Mesh) Hints() (map[string]wire.Position, <-chan struct{}) {
	m.hintMu.Lock()
	defer m.hintMu.Unlock()
	return maps.Clone(m.hints.known), m.hintsNew
}

func (m *Mesh) offerHints(hs []hint) {
	m.hintMu.Lock()
	news := false
	for _, h := range hs {
		news = m.hints.offer(h) || news
	}
	if news {
		close(m.hintsNew)
		m.hintsNew = make(chan struct{})
	}
	m.hintMu.Unlock()
	if news {
		select {
		case m.hintWake <- struct{}{}:
		default: // it is awake already
		}
	}
}

// announceLoop hands hints to gossip when they are due.
func (m *Mesh) announceLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-m.done:
			return
		case <-m.hintWake:
		case <-timer.C:
		}
		m.hintMu.Lock()
		ready, wait := m.hints.take(time.Now())
		m.hintMu.Unlock()
		for _, h := range ready {
			msg, err := wire.Marshal(&gossipFrame{ClusterID: m.cfg.ClusterID, Hints: []hint{h}})
			if err != nil {
				m.log.Error("encode a version hint", "job", h.Job, "err", err)
				continue
			}
			m.queue.QueueBroadcast(&hintBroadcast{job: h.Job, msg: msg})
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}
