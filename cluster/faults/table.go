// Package faults puts faults between nodes: links that are cut (also one way),
// reset, slow, or lossy, per plane of traffic and under control from outside
// while everything runs. The node that dials a connection enforces what happens
// to it, in both directions apart: bytes it sends wait before they are written,
// bytes it receives wait before they are read. Datagrams are their sender's.
//
// User space cannot lose bytes inside a TCP stream, so a cut is a stall: what
// was on the way arrives, late, once the link heals, as after a partition that
// TCP survived. Ends of connections wait like bytes.
package faults

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Planes of traffic.
const (
	Gossip     = "gossip"     // membership: datagrams and their TCP exchanges
	Raft       = "raft"       // log replication and elections
	Parameters = "parameters" // snapshots of parameters between nodes
	RPC        = "rpc"        // the mesh protocol: trajectories, control, joining
)

// maxDelay keeps a typing error from looking like a cut.
const maxDelay = time.Minute

// check says what is wrong with a fault, as a fielderr.Error.
func check(i int, f wire.LinkFault) error {
	at := func(field string) string { return fmt.Sprintf("faults[%d].%s", i, field) }
	limit := float64(maxDelay / time.Millisecond)
	switch {
	case f.Plane != "" && f.Plane != Gossip && f.Plane != Raft && f.Plane != Parameters && f.Plane != RPC:
		return fielderr.New(at("plane"), f.Plane, "gossip, raft, parameters, rpc, or nothing for all")
	case !(f.Drop >= 0 && f.Drop <= 1):
		return fielderr.New(at("drop"), f.Drop, "a share from 0 to 1")
	case !(f.DelayMS >= 0 && f.DelayMS <= limit):
		return fielderr.New(at("delay_ms"), f.DelayMS, fmt.Sprintf("0 to %g", limit))
	case !(f.JitterMS >= 0 && f.JitterMS <= limit):
		return fielderr.New(at("jitter_ms"), f.JitterMS, fmt.Sprintf("0 to %g", limit))
	case f.Rate < 0:
		return fielderr.New(at("rate"), f.Rate, "0 for no limit, or bytes a second")
	}
	return nil
}

// verdict is what a table says about one direction of one link.
type verdict struct {
	cut    bool
	drop   float64
	delay  time.Duration
	jitter time.Duration
	rate   int64 // 0: no limit
}

// table holds the faults in force. It is safe for concurrent use.
type table struct {
	mu      sync.Mutex
	faults  []wire.LinkFault
	random  *rand.Rand
	changed chan struct{} // closed and replaced by every set
	struck  atomic.Uint64 // by the faults in force
}

func newTable() *table {
	return &table{random: rng.New(0, rng.Fault), changed: make(chan struct{})}
}

func (t *table) set(faults []wire.LinkFault, seed uint64) error {
	if len(faults) > wire.MaxLinkFaults {
		return fielderr.New("faults", len(faults), fmt.Sprintf("at most %d", wire.MaxLinkFaults))
	}
	for i, f := range faults {
		if err := check(i, f); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = faults
	t.random = rng.New(seed, rng.Fault)
	close(t.changed)
	t.changed = make(chan struct{})
	return nil
}

// judge returns what holds for bytes from one node to another, and a channel
// that is closed when that may have changed. A node whose ID is not known, "",
// matches faults of any node only.
func (t *table) judge(plane, from, to string) (verdict, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var v verdict
	for i := range t.faults {
		f := &t.faults[i]
		if !matches(f, plane, from, to) {
			continue
		}
		v.cut = v.cut || f.Cut
		v.drop = 1 - (1-v.drop)*(1-f.Drop)
		v.delay += milliseconds(f.DelayMS)
		v.jitter += milliseconds(f.JitterMS)
		if f.Rate > 0 {
			v.rate = min(f.Rate, cmp.Or(v.rate, math.MaxInt64))
		}
	}
	return v, t.changed
}

func matches(f *wire.LinkFault, plane, from, to string) bool {
	return (f.Plane == "" || f.Plane == plane) && (f.From == "" || f.From == from) && (f.To == "" || f.To == to)
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// lag draws how long something takes under v.
func (t *table) lag(v verdict) time.Duration {
	if v.jitter <= 0 {
		return v.delay
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return v.delay + time.Duration(t.random.Float64()*float64(v.jitter))
}

// lost draws whether a datagram is lost under v.
func (t *table) lost(v verdict) bool {
	if v.cut || v.drop <= 0 {
		return v.cut
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.random.Float64() < v.drop
}
