package cluster

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// markSize bytes of a digest stand for a job in a node's gossip metadata. Two
	// jobs that share a mark cost a refused connection now and then.
	markSize = 4
	// MaxFollows bounds how many jobs a node tells of: gossip carries 512 bytes.
	// A node that follows more is not asked for the others.
	MaxFollows = 24
	// updateTimeout bounds the wait for a change of metadata to go out.
	updateTimeout = time.Second
)

func jobMark(job string) string {
	sum := sha256.Sum256([]byte(job))
	return string(sum[:markSize])
}

// FollowsJob says whether the node keeps up with a job's parameters, so that
// others may take them from it.
func (m Member) FollowsJob(job string) bool {
	mark := jobMark(job)
	for i := 0; i+markSize <= len(m.Follows); i += markSize {
		if m.Follows[i:i+markSize] == mark {
			return true
		}
	}
	return false
}

// SetFollows tells the mesh which jobs this node follows, of more than MaxFollows
// the first by name. It waits, at most a second, for the change to go out; gossip
// repeats it in any case, so an error is worth a debug message.
func (m *Mesh) SetFollows(jobs []string) error {
	jobs = slices.Clone(jobs)
	slices.Sort(jobs)
	jobs = slices.Compact(jobs)
	var marks strings.Builder
	for _, job := range jobs[:min(len(jobs), MaxFollows)] {
		marks.WriteString(jobMark(job))
	}
	meta, err := m.cfg.meta(marks.String()).encode()
	if err != nil {
		return fmt.Errorf("cluster: tell which jobs are followed: %w", err)
	}
	m.metaMu.Lock()
	same := string(m.meta) == string(meta)
	m.meta = meta
	m.metaMu.Unlock()
	if same {
		return nil
	}
	result := make(chan error, 1)
	if !m.spawn(func() { result <- m.list.UpdateNode(updateTimeout) }) {
		return nil // closed: nobody listens any more
	}
	if err := <-result; err != nil {
		return fmt.Errorf("cluster: tell which jobs are followed: %w", err)
	}
	return nil
}
