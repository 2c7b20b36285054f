package archive

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// Mesh is what a Node wants to know of the other nodes.
type Mesh interface {
	ClusterID() string
	Members() []cluster.Member
}

// State is the replicated state as this node has applied it.
type State interface {
	Read(func(*fsm.State))
	// Linearize waits until it contains everything that was answered before.
	Linearize(context.Context) error
	IsLeader() bool
}

// Config is what a Node stands on; every field is required but the last four.
type Config struct {
	Node  string // this node's UUID
	Store *Store
	Mesh  Mesh
	State State
	// Members are the nodes that receive the log, dead ones included; nil while
	// that is not known.
	Members func() []string
	Dial    cluster.DialOptions
	Clock   clock.Clock
	Logger  *slog.Logger

	// Guest says that this node holds nothing itself: one that only trains, and so
	// may come and go.
	Guest  bool
	Every  time.Duration // between two rounds of care; 0: ten seconds
	Grace  time.Duration // that a segment stays after it was merged into another, for its readers; 0: a minute
	Absent time.Duration // that a dead node may stay away before its copies are replaced; 0: a minute
}

// Node holds archive segments for the mesh: it answers the archive protocol,
// makes segments durable on as many nodes as a job asks for, finds them again,
// and removes what nobody can list any more. It is safe for concurrent use.
type Node struct {
	Config
	clients  *cluster.Leader // keeps one client per address
	arriving atomic.Int32    // segments
	hedge    time.Duration   // after which another node is asked too

	mu    sync.Mutex
	slow  map[string]time.Time // nodes that failed, until when they are asked last
	first map[string]time.Time // blobs, since when they are to be removed
	dead  map[string]time.Time // nodes, since when they are not alive
	seen  map[string]bool      // segments that were listed once, by job and ID
	scrub map[string]string    // last segment that was read back, by job
}

var _ cluster.ArchiveServer = (*Node)(nil)

// NewNode returns a Node that answers; Run makes it care.
func NewNode(c Config) *Node {
	c.Every, c.Grace, c.Absent = cmp.Or(c.Every, 10*time.Second), cmp.Or(c.Grace, time.Minute), cmp.Or(c.Absent, time.Minute)
	return &Node{
		Config:  c,
		hedge:   hedgeAfter,
		clients: cluster.NewLeader(c.Mesh.ClusterID(), func() []string { return nil }, c.Dial),
		slow:    map[string]time.Time{}, first: map[string]time.Time{}, dead: map[string]time.Time{}, seen: map[string]bool{}, scrub: map[string]string{},
	}
}

// Copies is how many nodes hold a segment before a Commit lists it: as many as
// the job asks for; else two, or one where there is one server.
func (n *Node) Copies(asked int) int {
	if asked > 0 {
		return asked
	}
	servers := n.Members()
	for _, m := range n.Mesh.Members() {
		if m.Role != cluster.RoleServer {
			servers = slices.DeleteFunc(servers, func(id string) bool { return id == m.ID })
		}
	}
	if len(servers) == 1 {
		return 1
	}
	return 2
}

// Short says how many of the servers that a job's segments need are missing: commits
// wait for them. asked is what the job asks for.
func (n *Node) Short(asked int) (have, want int, short bool) {
	want = n.Copies(asked)
	if n.Store.Shared() {
		return want, want, false
	}
	if have = len(n.peers("")); !n.Guest {
		have++
	}
	return have, want, have < want
}

// Close ends every connection. The store is the caller's.
func (n *Node) Close() error { return n.clients.Close() }
