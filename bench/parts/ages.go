package parts

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Ages is how old parameters are when a sampler process first uses them, and what
// it costs to bring them there.
type Ages struct {
	Rate       float64   `json:"published_per_second"`
	Deliveries int       `json:"snapshots_delivered"`
	Bytes      int       `json:"snapshot_bytes"`
	P50        float64   `json:"age_ms_p50"` // from the moment the learner had them
	P95        float64   `json:"age_ms_p95"`
	Transport  []float64 `json:"transport_ms_p50_p95,omitempty"` // from the commit on: without the log
	IdleCores  float64   `json:"idle_cores"`                     // of all processes, without publication
	CPU        float64   `json:"cpu_ms_per_snapshot"`            // of all processes, delivered to one process
	NetCPU     float64   `json:"net_cpu_ms_per_snapshot"`        // the same without what they use when idle
	Copies     float64   `json:"copies_sent_by_servers"`         // of each version, by all servers together
}

// PublishEvery is the time between two updates of a Publication.
const PublishEvery = 100 * time.Millisecond

// Publication measures Ages: a mesh of durable voters publishes ten versions per
// second to followers. The servers are real ones; their learner makes an update of
// one short trajectory each time, which is next to no work.
type Publication struct {
	Binary    string    // driftmesh
	Dir       string    // of the mesh
	Cache     string    // folder that the followers share; %d in it is replaced by a follower's number
	Spec      *job.Spec // a four-dimensional grid in batches of one, with a window below PublishEvery
	Servers   int
	Followers int // processes
	Params    int // of the job's model, log Z included
	For       time.Duration
	Profile   string // FILE.follower takes a CPU profile of the first follower; "": none
}

// Measure runs the mesh and its followers.
func (p Publication) Measure(ctx context.Context) (out *Ages, err error) {
	rig, err := chaos.NewRig(chaos.RigConfig{Binary: p.Binary, Dir: p.Dir, Servers: p.Servers, Seed: 1, Args: withMetrics})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	lead, id, err := Submit(ctx, rig, p.Spec)
	if err != nil {
		return nil, err
	}
	followers := make([]*Child, p.Followers)
	var nodes []string
	for i := range followers {
		line := []string{"follow", "-cluster", id, "-join", lead.GRPC, "-job", p.Spec.Name, "-cache", strings.ReplaceAll(p.Cache, "%d", strconv.Itoa(i))}
		if p.Profile != "" && i == 0 {
			line = append(line, "-profile", p.Profile+".follower")
		}
		followers[i], err = Self(line...)
		if err != nil {
			return nil, err
		}
		defer followers[i].End()
		var at Ready
		if err := followers[i].Read(ctx, &at); err != nil {
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
			pids = append(pids, f.PID())
		}
		return pids
	}()
	out = &Ages{}
	if err := clock.Rest(ctx, 2*time.Second); err != nil { // gossip settles
		return nil, err
	}
	if out.IdleCores, err = UsedCores(ctx, pids, p.For/2); err != nil {
		return nil, err
	}
	feeding, stop := context.WithCancel(ctx)
	fed := make(chan error, 1)
	go func() { fed <- keepFeeding(feeding, rig, id, p.Spec.Name, nodes[0]) }() // awaited below
	err = clock.Rest(ctx, time.Second)
	from := time.Now().UnixNano()
	var cores, sent float64
	if err == nil {
		cores, sent, err = p.watch(ctx, rig, pids)
	}
	to := time.Now().UnixNano()
	stop()
	if err := errors.Join(err, <-fed); err != nil {
		return nil, err
	}
	for _, f := range followers {
		f.End()
	}
	committed, err := commits(rig)
	if err != nil {
		return nil, err
	}
	out.Bytes = 4 * p.Params
	if err := out.account(<-seen, committed, cores, from, to); err != nil {
		return nil, err
	}
	out.Copies = sent / (out.Rate * float64(to-from) / 1e9) / float64(out.Bytes)
	return out, nil
}

// watch measures for a while what all processes use of the processor, and the bytes
// of parameters that the servers send.
func (p Publication) watch(ctx context.Context, rig *chaos.Rig, pids []int) (cores, sent float64, err error) {
	before, err := egress(ctx, rig)
	if err != nil {
		return 0, 0, err
	}
	if cores, err = UsedCores(ctx, pids, p.For); err != nil {
		return 0, 0, err
	}
	after, err := egress(ctx, rig)
	return cores, after - before, err
}

// account turns what the followers saw in an interval into numbers.
func (a *Ages) account(uses []use, committed map[uint64]int64, cores float64, from, to int64) error {
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
func collect(followers []*Child) <-chan []use {
	out := make(chan []use, 1)
	var mu sync.Mutex
	var all []use
	var reading sync.WaitGroup
	for _, f := range followers {
		reading.Go(func() {
			for {
				var u use
				if f.Scan(&u) != nil {
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

// UsedCores is what processes use of the processor over a while.
func UsedCores(ctx context.Context, pids []int, d time.Duration) (float64, error) {
	before, err := UsedCPU(pids)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := clock.Rest(ctx, d); err != nil {
		return 0, err
	}
	after, err := UsedCPU(pids)
	return (after - before).Seconds() / time.Since(began).Seconds(), err
}

// UsedCPU is what processes have used of the processor so far.
func UsedCPU(pids []int) (total time.Duration, err error) {
	for _, pid := range pids {
		used, err := chaos.CPUTime(pid)
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}

// keepFeeding feeds whoever learns: under load leadership may move.
func keepFeeding(ctx context.Context, rig *chaos.Rig, id, jobID, node string) error {
	for ctx.Err() == nil {
		lead, err := rig.Lead(ctx)
		if err == nil {
			err = feed(ctx, lead.GRPC, id, jobID, node)
		}
		if ctx.Err() == nil {
			Tell("the learner moved: %v", err)
			if err := clock.Rest(ctx, PublishEvery); err != nil {
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
	tick := time.NewTicker(PublishEvery)
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
		stop := []int32{GridStop}
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
