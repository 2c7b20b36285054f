package chaos

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/local"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver"
)

// binary builds the driftmesh command once for the package's tests.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "driftmesh")
	cmd := exec.Command("go", "build", "-o", path, "../cmd/driftmesh")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// killSpec is the quick grid with an update slow enough to be interrupted.
func killSpec(t *testing.T) *job.Spec {
	t.Helper()
	spec, _, err := job.Load("../examples/hypergrid-2d.yaml", []string{"name=kill", "train.updates=4000", "policy.hidden=[128,128]"})
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

type rig struct {
	*local.Mesh
	watch *Watcher
	spec  *job.Spec
}

// launch starts a mesh of processes and submits a job to it.
func launch(t *testing.T, servers, workers int, spec *job.Spec) *rig {
	t.Helper()
	dir := t.TempDir()
	mesh, err := local.Start(local.Config{
		Binary: binary(t), Dir: dir, Servers: servers, Workers: workers, Slots: 1,
		Event: func(text string) { t.Log(text) }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mesh.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
			for _, path := range logs {
				text, _ := os.ReadFile(path)
				t.Logf("%s:\n%s", filepath.Base(path), text[max(0, len(text)-4000):])
			}
		}
	})
	leader := cluster.NewLeader(mesh.ClusterID(), mesh.Servers, cluster.DialOptions{})
	t.Cleanup(func() { leader.Close() })
	data, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.CallIdempotent(deadline(t), leader, (*cluster.Client).Submit, &wire.SubmitRequest{ClusterID: mesh.ClusterID(), Spec: data}); err != nil {
		t.Fatal(err)
	}
	return &rig{mesh, &Watcher{Leader: leader, ClusterID: mesh.ClusterID(), Job: spec.Name}, spec}
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// version waits until the job has committed a version.
func (r *rig) version(t *testing.T, v uint64) Observation {
	t.Helper()
	o, err := r.watch.Until(deadline(t), func(o Observation) bool { return o.Position.Version >= v })
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// quality returns the exact evaluation of the committed state.
func (r *rig) quality(t *testing.T) *metrics.Report {
	t.Helper()
	reply, err := cluster.CallIdempotent(deadline(t), r.watch.Leader, (*cluster.Client).State, &wire.StateRequest{ClusterID: r.ClusterID(), Job: r.spec.Name})
	if err != nil {
		t.Fatal(err)
	}
	u, err := paramserver.NewUpdater(r.spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Restore(reply.Info.Version, reply.Params, reply.Private); err != nil {
		t.Fatal(err)
	}
	p := u.Params()
	rep, err := u.Exact(t.Context()).Model(u.Model.NewTape(), p[:len(p)-1])
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func (r *rig) kill(t *testing.T, name string) {
	t.Helper()
	if err := r.Kill(name); err != nil {
		t.Fatal(err)
	}
}

// TestKilledWorkerAndServer kills a worker and then the only server in the
// middle of a job. The job ends with the quality of an undisturbed one, and
// neither its version nor its count of trajectories ever goes back.
func TestKilledWorkerAndServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	r := launch(t, 1, 2, killSpec(t))
	r.version(t, 500)
	r.kill(t, "worker-1")
	before := r.version(t, 1000)
	r.kill(t, "server-1")
	after := r.version(t, before.Position.Version+200)
	if after.Epoch <= before.Epoch {
		t.Errorf("epoch %d after the server's death, %d before: its lease was not fenced", after.Epoch, before.Epoch)
	}
	end, err := r.watch.Until(deadline(t), func(o Observation) bool { return o.Status == "finished" })
	if err != nil {
		t.Fatal(err)
	}
	if err := Monotone(r.watch.History); err != nil {
		t.Error(err)
	}
	if want := end.Position.Version * uint64(r.spec.Train.Batch); end.Trajectories != want {
		t.Errorf("%d trajectories counted after %d updates of %d: want %d", end.Trajectories, end.Position.Version, r.spec.Train.Batch, want)
	}
	if rep := r.quality(t); rep.Distances.TV > 0.08 || rep.ModesHeld != len(rep.Modes) {
		t.Errorf("TV %.4f, %d of %d modes held: the kills cost quality", rep.Distances.TV, rep.ModesHeld, len(rep.Modes))
	}
}

// TestThreeVotersAgree trains on three voters, kills the leader on the way, and
// compares the state of all replicas at the end. (The replica package does so
// after 200 commits, without training in between.)
func TestThreeVotersAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	spec := killSpec(t)
	spec.Mesh.WindowMS = 1
	spec.Train.Updates = 6000
	r := launch(t, 3, 2, spec)
	r.version(t, 1000)
	reply := r.status(t, r.Servers()[0])
	for i, addr := range r.Servers() {
		if addr == reply.Leader {
			r.kill(t, []string{"server-1", "server-2", "server-3"}[i])
		}
	}
	if _, err := r.watch.Until(deadline(t), func(o Observation) bool { return o.Status == "finished" }); err != nil {
		t.Fatal(err)
	}
	if err := Monotone(r.watch.History); err != nil {
		t.Error(err)
	}
	r.agree(t)
}

func (r *rig) status(t *testing.T, addr string) *wire.StatusReply {
	t.Helper()
	c, err := r.watch.Leader.Client(addr)
	if err != nil {
		t.Fatal(err)
	}
	for ctx := deadline(t); ; {
		reply, err := c.Status(ctx, &wire.StatusRequest{ClusterID: r.ClusterID()})
		if err == nil {
			return reply
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(lookEvery):
		}
	}
}

// agree waits until every server has applied the same index and compares hash
// chains and job states.
func (r *rig) agree(t *testing.T) {
	t.Helper()
	for ctx := deadline(t); ; {
		var replies []*wire.StatusReply
		for _, addr := range r.Servers() {
			replies = append(replies, r.status(t, addr))
		}
		a, b, c := replies[0], replies[1], replies[2]
		if a.Applied == b.Applied && b.Applied == c.Applied && len(a.Jobs) == 1 && a.Jobs[0].Status == "finished" {
			if string(a.Chain) != string(b.Chain) || string(b.Chain) != string(c.Chain) {
				t.Errorf("hash chains differ at index %d: %x, %x, %x", a.Applied, a.Chain, b.Chain, c.Chain)
			}
			if string(a.Jobs[0].StateHash) != string(b.Jobs[0].StateHash) || string(b.Jobs[0].StateHash) != string(c.Jobs[0].StateHash) {
				t.Error("state hashes differ")
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("replicas do not meet: applied %d, %d, %d", a.Applied, b.Applied, c.Applied)
		case <-time.After(lookEvery):
		}
	}
}
