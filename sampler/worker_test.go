package sampler_test

import (
	"context"
	"crypto/sha256"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/sampler"
)

// meshSpec is a small grid that a mesh trains in a second.
func meshSpec(updates int64) *job.Spec {
	spec := gridSpec(6, 0.05, 1)
	spec.Train.Updates = updates
	spec.Optimiser.LearningRate = schedule.Const(5e-3)
	spec.Mesh.WindowMS = 5
	return spec
}

// TestWorkersTrainAJobToItsEnd over real sockets, raft and gossip.
func TestWorkersTrainAJobToItsEnd(t *testing.T) {
	s := startServer(t)
	spec := meshSpec(2000)
	spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Linear, From: 5e-3, To: 1e-4, Over: 2000}
	s.submit(t, spec)
	var mu sync.Mutex
	last := map[int]wire.Position{}
	workers := make([]*sampler.Worker, 2)
	for slot := range workers {
		workers[slot] = &sampler.Worker{Slot: slot, Observe: func(_ string, p wire.Position) {
			mu.Lock()
			defer mu.Unlock()
			if before, ok := last[slot]; ok && !before.Before(p) {
				t.Errorf("slot %d went from version %d to %d", slot, before.Version, p.Version)
			}
			last[slot] = p
		}}
		s.work(t, workers[slot])
	}
	s.until(t, "the job has finished", func(st *fsm.State) bool {
		j, ok := st.Job("grid")
		return ok && j.Status == fsm.Finished
	})
	var j *fsm.Job
	var sessions []fsm.Session
	s.replica.Read(func(st *fsm.State) { j, _ = st.Job("grid"); sessions = st.Sessions("grid") })
	if j.Version != 2000 || j.Admitted != 2000*uint64(spec.Train.Batch) || j.Refused+j.Stale != 0 {
		t.Errorf("version %d with %d admitted, %d refused, %d stale", j.Version, j.Admitted, j.Refused, j.Stale)
	}
	if len(sessions) != 2 {
		t.Errorf("%d sessions of two slots", len(sessions))
	}
	marks := uint64(0)
	for _, sess := range sessions {
		marks += sess.Mark
	}
	if marks != j.Admitted {
		t.Errorf("marks cover %d trajectories, %d were trained on", marks, j.Admitted)
	}
	if made := workers[0].Sampled.Load() + workers[1].Sampled.Load(); made < marks {
		t.Errorf("%d trained on, %d were sampled", marks, made)
	}
	w := newWorld(t, spec)
	params, err := wire.DecodeFloats(j.Params)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := metrics.Evaluate(w.env, w.tape, params[:len(params)-1])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("total variation %.3f", rep.Distances.TV)
	if tv := rep.Distances.TV; tv > 0.2 {
		t.Errorf("total variation %v after the job", tv)
	}
}

// TestALargeBatchIsFilledWithoutNews: while a batch fills, no update changes a
// worker's parameters, mark or credit. What it sends must itself let it sample on.
func TestALargeBatchIsFilledWithoutNews(t *testing.T) {
	s := startServer(t)
	spec := meshSpec(2)
	spec.Train.Batch, spec.Mesh.ReplayMax, spec.Mesh.Rollout = 4000, 16000, 4
	s.submit(t, spec)
	s.work(t, &sampler.Worker{})
	began := time.Now()
	s.until(t, "the job has finished", func(st *fsm.State) bool {
		j, ok := st.Job("grid")
		return ok && j.Status == fsm.Finished
	})
	if took := time.Since(began); took > 10*time.Second { // 2,000 rollouts take far less than one
		t.Errorf("two batches took %v", took)
	}
}

// TestAnExpiredSessionIsReplaced by a new one, and training goes on.
func TestAnExpiredSessionIsReplaced(t *testing.T) {
	s := startServer(t)
	s.submit(t, meshSpec(1_000_000))
	s.work(t, &sampler.Worker{})
	var first fsm.Session
	s.until(t, "a session is trained on", func(st *fsm.State) bool {
		for _, sess := range st.Sessions("grid") {
			if sess.Mark > 0 {
				first = sess
			}
		}
		return first.ID != ""
	})
	if res, err := s.replica.Apply(within(t), &fsm.ExpireSession{Job: "grid", Session: first.ID}); err != nil || res.Outcome != fsm.Applied {
		t.Fatal(res, err)
	}
	s.until(t, "another session is trained on", func(st *fsm.State) bool {
		for _, sess := range st.Sessions("grid") {
			if sess.ID != first.ID && sess.Mark > 0 {
				return true
			}
		}
		return false
	})
}

// published is a snapshot to send, and whether the worker must break off the
// stream for it: nothing more is sent there.
type published struct {
	snapshot *wire.FollowReply
	bad      bool
}

// scriptedServer is a mesh service that publishes by script and keeps what it
// is sent. Calls that a worker does not make would panic.
type scriptedServer struct {
	cluster.MeshServer
	cluster string
	addr    string
	spec    []byte
	publish chan published

	mu        sync.Mutex
	delivered []wire.Trajectory
	changed   chan struct{} // closed and renewed at every delivery
}

func (s *scriptedServer) Status(context.Context, *wire.StatusRequest) (*wire.StatusReply, error) {
	return &wire.StatusReply{ClusterID: s.cluster, Leader: s.addr}, nil
}

func (s *scriptedServer) Assign(_ *wire.AssignRequest, stream grpc.ServerStreamingServer[wire.Assignment]) error {
	if err := stream.Send(&wire.Assignment{Job: "grid", Spec: s.spec, LearnerAddr: s.addr}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (s *scriptedServer) OpenSession(_ context.Context, r *wire.OpenSessionRequest) (*wire.OpenSessionReply, error) {
	return &wire.OpenSessionReply{Session: r.Token}, nil
}

func (s *scriptedServer) Follow(_ *wire.FollowRequest, stream grpc.ServerStreamingServer[wire.FollowReply]) error {
	if err := stream.Send(&wire.FollowReply{Route: []string{"server"}}); err != nil {
		return err
	}
	for {
		select {
		case p := <-s.publish:
			if err := stream.Send(p.snapshot); err != nil {
				return err
			}
			if p.bad {
				<-stream.Context().Done()
				return nil
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (s *scriptedServer) Deliver(stream grpc.BidiStreamingServer[wire.Uplink, wire.Downlink]) error {
	hello, err := stream.Recv()
	if err != nil {
		return err
	}
	down := &wire.Downlink{Resume: 1, Credit: 64}
	for {
		if err := stream.Send(down); err != nil {
			return err
		}
		up, err := stream.Recv()
		if err != nil {
			return nil
		}
		columns, err := wire.DecodeBatch(up.Batch)
		if err != nil {
			return err
		}
		batch, err := columns.Trajectories(hello.Hello.Session)
		if err != nil {
			return err
		}
		last := batch[len(batch)-1].Seq
		down = &wire.Downlink{Mark: last, Credit: last + 64}
		s.mu.Lock()
		s.delivered = append(s.delivered, batch...)
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
}

// until waits for a delivered trajectory of a version.
func (s *scriptedServer) until(t *testing.T, version uint64) {
	t.Helper()
	ctx := within(t)
	for {
		s.mu.Lock()
		changed, n := s.changed, len(s.delivered)
		ok := n > 0 && s.delivered[n-1].Version == version
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("gave up waiting for a trajectory of version %d", version)
		}
	}
}

// TestParametersAreVerifiedAndNeverGoBack: a snapshot whose bytes do not match
// its hash is not sampled from, nor an older one, and parameters are swapped
// between trajectories only: each has the log-probability of its own version.
func TestParametersAreVerifiedAndNeverGoBack(t *testing.T) {
	spec := gridSpec(6, 0.05, 1)
	raw, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, spec)
	versions := map[uint64][]float32{}
	for v := uint64(1); v <= 5; v++ {
		params := append([]float32(nil), w.params...)
		for i := range params {
			params[i] *= float32(v) / 3
		}
		versions[v] = params
	}
	snapshot := func(v uint64) *wire.FollowReply {
		data := wire.EncodeFloats(nil, versions[v])
		sum := sha256.Sum256(data)
		return &wire.FollowReply{
			Head: &wire.Head{Job: "grid", Position: wire.Position{Version: v}, Encoding: wire.Float32, Size: int64(len(data)), Hash: sum[:]},
			Part: data,
		}
	}
	l := listen(t)
	s := &scriptedServer{
		cluster: "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", addr: l.Addr().String(), spec: raw,
		publish: make(chan published), changed: make(chan struct{}),
	}
	node := serve(t, l, s.cluster, s)
	var mu sync.Mutex
	var observed []uint64
	end := node.work(t, &sampler.Worker{Observe: func(_ string, p wire.Position) {
		mu.Lock()
		defer mu.Unlock()
		observed = append(observed, p.Version)
	}})

	s.publish <- published{snapshot(1), false}
	s.until(t, 1)
	s.publish <- published{snapshot(3), false}
	s.until(t, 3)
	s.publish <- published{snapshot(2), false} // a replica that is behind
	forged := snapshot(4)
	forged.Part[5] ^= 1
	s.publish <- published{forged, true}
	short := snapshot(4)
	short.Part = short.Part[:len(short.Part)-4]
	s.publish <- published{short, true}
	s.publish <- published{snapshot(5), false}
	s.until(t, 5)
	end()

	mu.Lock()
	defer mu.Unlock()
	if want := []uint64{1, 3, 5}; !slices.Equal(observed, want) {
		t.Errorf("adopted %v, want %v", observed, want)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	version, seen := uint64(0), 0
	for i := range s.delivered {
		tr := &s.delivered[i]
		if tr.Seq != uint64(i+1) || tr.Version < version {
			t.Fatalf("trajectory %d of version %d follows one of version %d", tr.Seq, tr.Version, version)
		}
		if tr.Version != version {
			version, seen = tr.Version, 0
		}
		if seen++; seen > 64 {
			continue // enough of each version
		}
		want := w.replayed(t, tr, versions[tr.Version], 0.05, 1)
		if math.Abs(tr.LogBehaviour-want) > 1e-6*(1+math.Abs(want)) {
			t.Fatalf("trajectory %d says it is of version %d; log behaviour %v, there %v", tr.Seq, tr.Version, tr.LogBehaviour, want)
		}
	}
}
