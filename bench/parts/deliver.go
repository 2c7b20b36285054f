package parts

import (
	"context"
	"flag"
	"fmt"
	"sync"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/sampler"
)

// keepLimit is a worker's: sampling pauses while that many trajectories wait for
// a mark.
const keepLimit = 1 << 14

// prepared makes a batch as a sampler of the four-dimensional grid of height 8
// would, without its cost: ways to uniformly chosen cells, 15 actions in the mean,
// as many as in the batches of Ray's side.
func prepared(seed uint64) []wire.Trajectory {
	random := rng.New(seed, rng.Rollout)
	out := make([]wire.Trajectory, PerCall)
	for i := range out {
		var actions []int32
		for axis := range int32(GridStop) {
			for range random.IntN(8) {
				actions = append(actions, axis)
			}
		}
		random.Shuffle(len(actions), func(i, j int) { actions[i], actions[j] = actions[j], actions[i] })
		out[i] = wire.Trajectory{Version: 1, Actions: append(actions, GridStop), LogReward: random.Float64(), LogBehaviour: -random.Float64()}
	}
	return out
}

// delivery is a sampler process that does not sample: the outbox, the encoding
// and the stream are a worker's.
type delivery struct {
	mu     sync.Mutex
	wake   *sync.Cond
	outbox *sampler.Outbox
	failed error
}

// runDeliver is one sampler process.
func runDeliver(ctx context.Context, args []string) error {
	fl := flag.NewFlagSet("deliver", flag.ContinueOnError)
	id := fl.String("cluster", "", "cluster `UUID`")
	addr := fl.String("to", "", "`address` of the intake")
	session := fl.String("session", "", "`name` of the session")
	profile := fl.String("profile", "", "CPU profile `file`")
	seed := fl.Uint64("seed", 1, "seed of the trajectories")
	if err := fl.Parse(args); err != nil {
		return err
	}
	stop, err := Profiled(*profile)
	if err != nil {
		return err
	}
	defer stop()
	client, err := cluster.Dial(*addr, cluster.DialOptions{})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Deliver(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&wire.Uplink{Hello: &wire.Hello{ClusterID: *id, Job: "bench", Session: *session}}); err != nil {
		return err
	}
	d := &delivery{outbox: sampler.NewOutbox(0)}
	d.wake = sync.NewCond(&d.mu)
	var receiving sync.WaitGroup
	defer receiving.Wait()
	defer cancel()
	receiving.Go(func() { d.receive(stream.Recv) }) // ends with the stream
	batch := prepared(*seed)
	for {
		frame, err := d.next(batch)
		if err == nil {
			err = stream.Send(&wire.Uplink{Batch: frame})
		}
		switch {
		case ctx.Err() != nil: // told to end
			return Say(sent{Batches: d.outbox.Next() / PerCall, CPU: OwnCPU().Seconds()})
		case err != nil:
			return fmt.Errorf("deliver: %w", err)
		}
	}
}

// sent is what a sampler process did in its life.
type sent struct {
	Batches uint64  `json:"batches"`
	CPU     float64 `json:"cpu_seconds"`
}

// next returns the next frame that has credit, sampled on the way.
func (d *delivery) next(batch []wire.Trajectory) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.failed == nil {
		if d.outbox.Waiting() == 0 && d.outbox.Kept()+PerCall <= keepLimit {
			for i := range batch {
				batch[i].Seq = d.outbox.Next() + uint64(i)
			}
			columns, err := wire.NewBatch(batch)
			if err != nil {
				return nil, err
			}
			frame, err := wire.EncodeBatch(nil, columns)
			if err != nil {
				return nil, err
			}
			d.outbox.Push(PerCall, frame)
		}
		if frame, ok := d.outbox.Send(); ok {
			return frame, nil
		}
		d.wake.Wait()
	}
	return nil, d.failed
}

func (d *delivery) receive(recv func() (*wire.Downlink, error)) {
	for {
		down, err := recv()
		d.mu.Lock()
		if err == nil && down.Resume > 0 {
			err = d.outbox.Resume(down.Resume)
		}
		if err == nil {
			d.outbox.Acknowledge(down.Mark, down.Credit)
		}
		d.failed = err
		d.wake.Signal()
		d.mu.Unlock()
		if err != nil {
			return
		}
	}
}
