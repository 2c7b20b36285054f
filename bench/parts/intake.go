package parts

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// What the measurements of transport agree on.
const (
	Samplers = 8  // processes, where nothing else is said
	PerCall  = 64 // trajectories
	inFlight = 8  // calls of one sampler that are not answered yet
	kept     = 1 << 16

	// GridStop is the action that ends a trajectory of the four-dimensional grid.
	GridStop = 4
)

// intakeServer is a learner's node without a learner: the gRPC server, the
// stream and the admission are the real ones, what is admitted goes into a ring of
// the newest trajectories instead of into updates, and marks are "committed" each
// window without a log.
type intakeServer struct {
	cluster.MeshServer // nothing but Deliver is called
	intake             *paramserver.Intake
	taken              atomic.Uint64
	ring               []wire.Trajectory

	mu      sync.Mutex
	marks   map[string]uint64
	changed chan struct{}
}

func newIntakeServer(samplers int) *intakeServer {
	queue := paramserver.NewAdmission(samplers*inFlight*PerCall, PerCall, paramserver.Bounds{})
	return &intakeServer{
		intake: paramserver.NewIntake(queue, func() int { return PerCall }, clock.Real{}, slog.New(slog.DiscardHandler)),
		ring:   make([]wire.Trajectory, kept),
		marks:  map[string]uint64{}, changed: make(chan struct{}),
	}
}

// Deliver implements cluster.MeshServer.
func (s *intakeServer) Deliver(stream grpc.BidiStreamingServer[wire.Uplink, wire.Downlink]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.Hello == nil {
		return fmt.Errorf("%w: the first message of a trajectory stream is a Hello", cluster.ErrInvalid)
	}
	session := first.Hello.Session
	return s.intake.Serve(stream, session, func() (uint64, <-chan struct{}, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.marks[session], s.changed, nil
	})
}

// consume takes what was admitted, as a learner would, and remembers it where there
// is a memory.
func (s *intakeServer) consume(ctx context.Context, m *memory) error {
	for {
		batch, err := s.intake.Next(ctx, 1, nil)
		if err != nil {
			return nil
		}
		if m != nil {
			if err := m.add(batch); err != nil {
				return err
			}
		}
		at := int(s.taken.Load() % kept) // kept is a multiple of PerCall
		copy(s.ring[at:], batch)
		s.taken.Add(uint64(len(batch)))
	}
}

// commit covers, once a window, what was taken.
func (s *intakeServer) commit(ctx context.Context, window time.Duration) {
	tick := time.NewTicker(window)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.covered(s.intake.Marks())
	}
}

// covered tells the streams what is committed.
func (s *intakeServer) covered(marks []fsm.Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range marks {
		s.marks[m.Session] = m.Seq
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// Taking is what an intake process measured.
type Taking struct {
	Rate        float64 `json:"trajectories_per_second"`
	CPU         float64 `json:"intake_cpu_us_per_batch,omitempty"`
	SamplersCPU float64 `json:"samplers_cpu_us_per_batch,omitempty"`
}

// runIntake is the process that takes trajectories.
func runIntake(ctx context.Context, args []string) error {
	fl := flag.NewFlagSet("intake", flag.ContinueOnError)
	id := fl.String("cluster", "", "cluster `UUID`")
	seconds := fl.Duration("for", 5*time.Second, "`time` measured")
	window := fl.Duration("window", 50*time.Millisecond, "`time` between marks")
	profile := fl.String("profile", "", "CPU profile `file`")
	dir := fl.String("archive", "", "`folder` for archive segments; none without it")
	samplers := fl.Int("samplers", Samplers, "sessions that will deliver")
	jobFile := fl.String("job", "", "job `file`, whose environment replays actions and gives objects their text")
	if err := fl.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := newIntakeServer(*samplers)
	rpc := cluster.NewServer(cluster.ServerOptions{ClusterID: func() string { return *id }})
	cluster.RegisterMesh(rpc, s)
	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	defer loops.Wait()
	defer rpc.Stop()
	defer cancel()
	loops.Go(func() { rpc.Serve(listener) }) // ends with Stop
	fail := func(err error) {
		if err != nil {
			Tell("%v", err)
			cancel()
		}
	}
	if *dir == "" {
		var m *memory
		if *jobFile != "" {
			if m, err = newMemory(*jobFile); err != nil {
				return err
			}
		}
		loops.Go(func() { fail(s.consume(ctx, m)) })
		loops.Go(func() { s.commit(ctx, *window) })
	} else {
		a, err := newArchiver(*jobFile, *dir)
		if err != nil {
			return err
		}
		defer a.store.Close()
		loops.Go(func() { fail(s.consumeArchived(ctx, a, *window)) })
		loops.Go(func() { fail(a.write(ctx, s.covered)) })
	}
	if err := Say(Ready{Addr: listener.Addr().String()}); err != nil {
		return err
	}
	if err := s.warm(ctx, *samplers); err != nil {
		return err
	}
	stop, err := Profiled(*profile)
	if err != nil {
		return err
	}
	defer stop()
	before, cpu, began := s.taken.Load(), OwnCPU(), time.Now()
	if err := clock.Rest(ctx, *seconds); err != nil {
		return err
	}
	n := float64(s.taken.Load() - before)
	out := Taking{Rate: n / time.Since(began).Seconds(), CPU: float64((OwnCPU() - cpu).Microseconds()) / (n / PerCall)}
	if err := Say(out); err != nil {
		return err
	}
	<-ctx.Done() // samplers end first
	return nil
}

// warm waits until every sampler has delivered, and a little more.
func (s *intakeServer) warm(ctx context.Context, samplers int) error {
	for {
		s.mu.Lock()
		n := len(s.marks)
		s.mu.Unlock()
		if n == samplers {
			return clock.Rest(ctx, time.Second)
		}
		if err := clock.Rest(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// Ready is the first line that a child process writes.
type Ready struct {
	Addr string `json:"addr,omitempty"`
	Node string `json:"node,omitempty"`
}
