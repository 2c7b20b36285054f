package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// ages is how old parameters are when a sampler process first uses them, and what
// it costs to bring them there.
type ages struct {
	Rate       float64   `json:"published_per_second"`
	Deliveries int       `json:"snapshots_delivered"`
	Bytes      int       `json:"snapshot_bytes"`
	P50        float64   `json:"age_ms_p50"` // from the moment the learner had them
	P95        float64   `json:"age_ms_p95"`
	Transport  []float64 `json:"transport_ms_p50_p95,omitempty"` // from the commit on: without the log
	IdleCores  float64   `json:"idle_cores"`                     // of all processes, without publication
	CPU        float64   `json:"cpu_ms_per_snapshot"`            // of all processes, delivered to one process
	NetCPU     float64   `json:"net_cpu_ms_per_snapshot"`        // the same without what they use when idle
}

const publishEvery = 100 * time.Millisecond

// ages lets a mesh of three durable voters publish ten versions per second to
// eight followers. The servers are real ones; their learner makes an update of one
// short trajectory each time, which is next to no work.
func (c *comparison) ages(ctx context.Context) (out *ages, err error) {
	spec, err := c.spec("ages", "train.batch=1", "mesh.rollout=1", "mesh.window_ms=5")
	if err != nil {
		return nil, err
	}
	rig, err := chaos.NewRig(chaos.RigConfig{Binary: c.binary, Dir: c.folder("ages"), Servers: 3, Seed: 1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	lead, id, err := submit(ctx, rig, spec)
	if err != nil {
		return nil, err
	}
	followers := make([]*child, samplers)
	var nodes []string
	for i := range followers {
		line := []string{"follow", "-cluster", id, "-join", lead.GRPC, "-job", spec.Name, "-cache", filepath.Join(c.dir, "cache")}
		if c.profile != "" && i == 0 {
			line = append(line, "-profile", c.profile+".follower")
		}
		followers[i], err = c.self(line...)
		if err != nil {
			return nil, err
		}
		defer followers[i].end()
		var at ready
		if err := followers[i].read(ctx, &at); err != nil {
			return nil, err
		}
		nodes = append(nodes, at.Node)
	}
	seen := collect(followers)
	pids := func() (pids []int) {
		for _, n := range rig.Nodes() {
			pids = append(pids, n.PID())
		}
		for _, f := range followers {
			pids = append(pids, f.cmd.Process.Pid)
		}
		return pids
	}()
	out = &ages{}
	if err := rest(ctx, 2*time.Second); err != nil { // gossip settles
		return nil, err
	}
	if out.IdleCores, err = usedCores(ctx, pids, c.seconds/2); err != nil {
		return nil, err
	}
	feeding, stop := context.WithCancel(ctx)
	fed := make(chan error, 1)
	go func() { fed <- keepFeeding(feeding, rig, id, spec.Name, nodes[0]) }() // awaited below
	err = rest(ctx, time.Second)
	from := time.Now().UnixNano()
	var cores float64
	if err == nil {
		cores, err = usedCores(ctx, pids, c.seconds)
	}
	to := time.Now().UnixNano()
	stop()
	if err := errors.Join(err, <-fed); err != nil {
		return nil, err
	}
	for _, f := range followers {
		f.end()
	}
	committed, err := commits(rig)
	if err != nil {
		return nil, err
	}
	out.Bytes = 4 * c.params
	return out, out.account(<-seen, committed, cores, from, to)
}

// account turns what the followers saw in an interval into numbers.
func (a *ages) account(uses []use, committed map[uint64]int64, cores float64, from, to int64) error {
	var total, transport []float64
	versions := map[uint64]bool{}
	for _, u := range uses {
		if u.Stamp < from || u.Stamp > to {
			continue
		}
		versions[u.Version] = true
		total = append(total, float64(u.At-u.Stamp)/1e6)
		if at, ok := committed[u.Version]; ok {
			transport = append(transport, float64(u.At-at)/1e6)
		}
	}
	if len(total) == 0 {
		return errors.New("no version was used by any follower")
	}
	seconds := float64(to-from) / 1e9
	a.Deliveries = len(total)
	a.Rate = float64(len(versions)) / seconds
	a.P50, a.P95 = chaos.Quantile(total, 0.5), chaos.Quantile(total, 0.95)
	a.Transport = []float64{chaos.Quantile(transport, 0.5), chaos.Quantile(transport, 0.95)}
	a.CPU = 1e3 * cores * seconds / float64(len(total))
	a.NetCPU = 1e3 * (cores - a.IdleCores) * seconds / float64(len(total))
	return nil
}

// collect reads what the followers say until they have ended.
func collect(followers []*child) <-chan []use {
	out := make(chan []use, 1)
	var mu sync.Mutex
	var all []use
	var reading sync.WaitGroup
	for _, f := range followers {
		reading.Go(func() {
			for {
				var u use
				if f.scan(&u) != nil {
					return
				}
				mu.Lock()
				all = append(all, u)
				mu.Unlock()
			}
		})
	}
	go func() { // ends with the followers
		reading.Wait()
		out <- all
	}()
	return out
}

// commits reads from the servers' journals when each version was committed, as
// its learner saw it.
func commits(rig *chaos.Rig) (map[uint64]int64, error) {
	out := map[uint64]int64{}
	for _, n := range rig.Nodes(cluster.RoleServer) {
		f, err := os.Open(n.Journal)
		if err != nil {
			return nil, err
		}
		entries, _, err := journal.Read(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Kind == journal.Committed {
				out[e.Version] = e.Time
			}
		}
	}
	return out, nil
}

// usedCores is what processes use of the processor over a while.
func usedCores(ctx context.Context, pids []int, d time.Duration) (float64, error) {
	before, err := usedCPU(pids)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := rest(ctx, d); err != nil {
		return 0, err
	}
	after, err := usedCPU(pids)
	return (after - before).Seconds() / time.Since(began).Seconds(), err
}

func usedCPU(pids []int) (total time.Duration, err error) {
	for _, pid := range pids {
		used, err := chaos.CPUTime(pid)
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}

// submit gives a mesh a job and waits until it has a learner. It returns who
// leads, and the cluster's ID.
func submit(ctx context.Context, rig *chaos.Rig, spec *job.Spec) (*chaos.Node, string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := rig.Voting(ctx); err != nil {
		return nil, "", err
	}
	data, err := spec.JSON()
	if err != nil {
		return nil, "", err
	}
	if err := rig.Submit(ctx, data); err != nil {
		return nil, "", err
	}
	for {
		lead, err := rig.Lead(ctx)
		if err != nil {
			return nil, "", err
		}
		reply, err := rig.Status(ctx, lead, spec.Name)
		if err == nil && len(reply.Jobs) == 1 && reply.Jobs[0].CommitEpoch > 0 {
			for _, n := range rig.Nodes() {
				if n.GRPC == reply.Jobs[0].LearnerAddr {
					return n, reply.ClusterID, nil
				}
			}
		}
		if err := rest(ctx, 20*time.Millisecond); err != nil {
			return nil, "", fmt.Errorf("job %s has no learner: %w", spec.Name, err)
		}
	}
}

// keepFeeding feeds whoever learns: under load leadership may move.
func keepFeeding(ctx context.Context, rig *chaos.Rig, id, jobID, node string) error {
	for ctx.Err() == nil {
		lead, err := rig.Lead(ctx)
		if err == nil {
			err = feed(ctx, lead.GRPC, id, jobID, node)
		}
		if ctx.Err() == nil {
			tell("the learner moved: %v", err)
			if err := rest(ctx, publishEvery); err != nil {
				break
			}
		}
	}
	return nil
}

// feed delivers one trajectory per publication as a worker's session does.
func feed(ctx context.Context, addr, id, jobID, node string) error {
	client, err := cluster.Dial(addr, cluster.DialOptions{})
	if err != nil {
		return err
	}
	defer client.Close()
	session := uuid.NewString()
	if _, err := client.OpenSession(ctx, &wire.OpenSessionRequest{ClusterID: id, Job: jobID, Worker: node, Token: session}); err != nil {
		return err
	}
	stream, err := client.Deliver(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&wire.Uplink{Hello: &wire.Hello{ClusterID: id, Job: jobID, Session: session}}); err != nil {
		return err
	}
	var last wire.Downlink
	var mu sync.Mutex
	broken := make(chan error, 1)
	go func() { // ends with the stream
		for {
			d, err := stream.Recv()
			if err != nil {
				broken <- err
				return
			}
			mu.Lock()
			last = *d
			mu.Unlock()
		}
	}()
	tick := time.NewTicker(publishEvery)
	defer tick.Stop()
	for seq := uint64(1); ; {
		select {
		case <-tick.C:
		case err := <-broken:
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		mu.Lock()
		credit := last.Credit
		mu.Unlock()
		if credit < seq {
			continue // the next tick is soon enough
		}
		stop := []int32{gridStop}
		columns, err := wire.NewBatch([]wire.Trajectory{{Seq: seq, Actions: stop, LogReward: -1, LogBehaviour: -1}})
		if err != nil {
			return err
		}
		frame, err := wire.EncodeBatch(nil, columns)
		if err != nil {
			return err
		}
		if err := stream.Send(&wire.Uplink{Batch: frame}); err != nil && ctx.Err() == nil {
			return err
		}
		seq++
	}
}
