package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
)

// bare is hashicorp/raft as it comes: the same log, transport, timeouts and entry
// size as ours, and a state machine that does nothing. It encodes, hashes and
// checks nothing, keeps no second file beside the log, and every entry is the
// same bytes.
type bare struct {
	raft  *raft.Raft
	trans *raft.NetworkTransport
	log   *raftwal.WAL
	data  []byte
}

const (
	bareSegment = 16 << 20 // bytes of a file of the log, as ours
	bareCache   = 16       // entries, as ours
	bareAppend  = 16       // entries that travel together, as ours
	bareKept    = 256      // entries that stay in the log: the disk is not endless
)

func openBare(dir, id string, found bool, size int) (b *bare, err error) {
	b = &bare{data: make([]byte, size)}
	for i, x := range weights(size) {
		b.data[i] = byte(int(x * 256))
	}
	logger := hclog.NewNullLogger()
	wal := filepath.Join(dir, "log")
	if err := os.MkdirAll(wal, 0o700); err != nil {
		return nil, err
	}
	if b.log, err = raftwal.Open(wal, raftwal.WithSegmentSize(bareSegment), raftwal.WithLogger(logger)); err != nil {
		return nil, err
	}
	cache, err := raft.NewLogCache(bareCache, b.log)
	if err != nil {
		return nil, err
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, logger)
	if err != nil {
		return nil, err
	}
	if b.trans, err = raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 3, 3*time.Second, logger); err != nil {
		return nil, err
	}
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.Logger = raft.ServerID(id), logger
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	cfg.CommitTimeout = 20 * time.Millisecond
	cfg.MaxAppendEntries = bareAppend
	cfg.SnapshotThreshold, cfg.SnapshotInterval, cfg.TrailingLogs = bareKept, time.Second, bareKept
	cfg.NoLegacyTelemetry = true
	if found {
		self := raft.Configuration{Servers: []raft.Server{{ID: cfg.LocalID, Address: b.trans.LocalAddr()}}}
		if err := raft.BootstrapCluster(cfg, cache, b.log, snaps, b.trans, self); err != nil {
			return nil, err
		}
	}
	b.raft, err = raft.NewRaft(cfg, nothing{}, cache, b.log, snaps, b.trans)
	return b, err
}

func (b *bare) addr() string { return string(b.trans.LocalAddr()) }
func (b *bare) size() int    { return len(b.data) }

func (b *bare) close() error {
	return errors.Join(b.raft.Shutdown().Error(), b.trans.Close(), b.log.Close())
}

func (b *bare) lead(ctx context.Context, peers []peer) error {
	if err := elected(ctx, func() bool { return b.raft.State() == raft.Leader }); err != nil {
		return err
	}
	for _, p := range peers {
		if err := b.raft.AddVoter(raft.ServerID(p.id), raft.ServerAddress(p.addr), 0, 10*time.Second).Error(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bare) encode() ([]byte, error) { return b.data, nil }

func (b *bare) propose(entry []byte) <-chan error {
	future := b.raft.Apply(entry, 5*time.Second)
	answer := make(chan error, 1)
	go func() { answer <- future.Error() }() // ends with the answer
	return answer
}

var _ ensemble = (*bare)(nil)

// nothing is the state machine that does nothing.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                 { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (nothing) Restore(r io.ReadCloser) error       { return r.Close() }
func (nothing) Persist(sink raft.SnapshotSink) error {
	return sink.Close()
}
func (nothing) Release() {}
