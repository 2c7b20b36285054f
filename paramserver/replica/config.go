package replica

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Config says where a replica lives and how it finds the others.
type Config struct {
	// Dir is the data directory; it is created when missing and locked while
	// the replica is open.
	Dir string
	// ID is the node's identity, a UUID born with Dir. It never changes.
	ID string
	// Listen is the TCP address that other replicas reach this one at, such as
	// "127.0.0.1:0"; see Addr.
	Listen string
	// Resolve gives the present raft address of a node. nil: addresses stay
	// those that the replicated configuration names.
	Resolve func(id string) (addr string, ok bool)
	// Single chooses the timeouts of a cluster that stays at one voter: it
	// leads some 30 ms after start. AddVoter refuses on such a replica.
	Single bool
	// Bootstrap founds a new cluster with this node as its only voter. It
	// needs a directory that has never been used.
	Bootstrap bool
	// SnapshotBytes of log entries make a snapshot due. 0: 64 MiB.
	SnapshotBytes int64
	// SnapshotEvery makes a snapshot due after this time if anything was applied
	// since the last one. 0: 10 minutes.
	SnapshotEvery time.Duration
	// TrailingBytes of entries stay in the log behind a snapshot, for followers
	// that are a little behind. 0: 64 MiB, which is also the most.
	TrailingBytes int64
	// ScrubEvery is the time between two passes that compare all bytes on disk and
	// in memory with their checksums, ScrubRate their bytes per second. 0: an
	// hour, 8 MiB.
	ScrubEvery time.Duration
	ScrubRate  int64
	// ClusterID and Generation are what the raft port asks of every peer: nodes
	// of another cluster, and of a cluster that was restored since, are refused.
	// Once the replicated state knows a newer generation, that one counts. ""
	// asks nothing, for tests.
	ClusterID  string
	Generation uint64
	// Dial opens a connection to a peer's raft address; nil is plain TCP. Fault
	// injection puts itself here.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// WriteFault is asked before every write to disk, with FaultLog, FaultVote or
	// FaultSnapshot; an error is taken for the disk's. nil: none. For fault
	// injection.
	WriteFault func(what string) error
	// ApplyFault gives the bytes that the state machine takes for a command, as a
	// bit that flips in memory would. nil: none. For fault injection.
	ApplyFault func(index uint64, command []byte) []byte
	// ReadIndex asks the present leader for its Replica.ReadIndex. A replica that
	// does not lead needs it for Linearize; nil: only the leader linearizes.
	ReadIndex func(ctx context.Context) (uint64, error)
	// Logger takes the replica's and raft's messages. nil: none.
	Logger *slog.Logger
}

const (
	defaultBytes = 64 << 20
	defaultEvery = 10 * time.Minute // between snapshots
	defaultScrub = time.Hour
	defaultRate  = 8 << 20  // bytes per second of a scrub
	segmentSize  = 16 << 20 // of the log: it is deleted by whole segments
	cacheEntries = 16       // of the log kept in memory
	maxAppend    = 16       // entries that travel together
	retain       = 2        // snapshots
)

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Dir == "":
		return c, fielderr.New("replica.dir", nil, "a folder for the log and the snapshots")
	case c.ID == "":
		return c, fielderr.New("replica.id", nil, "the node's UUID")
	case c.Listen == "":
		return c, fielderr.New("replica.listen", nil, "a TCP address such as 127.0.0.1:0")
	case c.SnapshotBytes < 0:
		return c, fielderr.New("replica.snapshot_bytes", c.SnapshotBytes, "0 for the default, or more")
	case c.SnapshotEvery < 0:
		return c, fielderr.New("replica.snapshot_every", c.SnapshotEvery, "0 for the default, or a duration above 0")
	case c.ScrubEvery < 0:
		return c, fielderr.New("replica.scrub_every", c.ScrubEvery, "0 for the default, or a duration above 0")
	case c.ScrubRate < 0:
		return c, fielderr.New("replica.scrub_rate", c.ScrubRate, "0 for the default, or bytes per second")
	case c.TrailingBytes < 0 || c.TrailingBytes > defaultBytes:
		return c, fielderr.New("replica.trailing_bytes", c.TrailingBytes, "0 for the default, or at most 64 MiB")
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = defaultBytes
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = defaultEvery
	}
	if c.ScrubEvery == 0 {
		c.ScrubEvery = defaultScrub
	}
	if c.ScrubRate == 0 {
		c.ScrubRate = defaultRate
	}
	if c.WriteFault == nil {
		c.WriteFault = func(string) error { return nil }
	}
	if c.TrailingBytes == 0 {
		c.TrailingBytes = defaultBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// raftConfig presets what was measured to hold. With several voters 200 ms give a
// failover of about half a second. The leader's lease is as long: it plays no part
// in a failover, only in how soon a leader without its quorum steps down, and at
// 100 ms a busy machine's scheduler was enough to make one do so.
func raftConfig(id string, single bool, logger hclog.Logger) *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(id)
	cfg.Logger = logger
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	if single {
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	}
	cfg.CommitTimeout = 20 * time.Millisecond
	cfg.MaxAppendEntries = maxAppend
	// raft's own trigger counts entries, and entries here are tiny or huge:
	// the replica counts bytes and asks for snapshots itself.
	cfg.SnapshotThreshold = ^uint64(0)
	cfg.SnapshotInterval = 24 * time.Hour
	cfg.TrailingLogs = 64
	cfg.ShutdownOnRemove = false
	cfg.NoLegacyTelemetry = true
	return cfg
}
