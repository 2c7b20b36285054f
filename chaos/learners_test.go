package chaos

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// crew is a mesh whose jobs are trained by nodes of their own.
type crew struct {
	*Rig
	ctx context.Context
	job string
}

func newCrew(t *testing.T, learners int, fields ...string) *crew {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	r, err := NewRig(RigConfig{Binary: binary(t), Dir: filepath.Join(t.TempDir(), "mesh"), Servers: 3, Learners: learners, Workers: 1, Slots: 2, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range r.Nodes() {
				t.Logf("%s:\n%s", n.Name, n.Tail(3000))
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.Voting(ctx); err != nil {
		t.Fatal(err)
	}
	spec := endless(t, append([]string{"name=crew"}, fields...)...)
	data, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Submit(ctx, data); err != nil {
		t.Fatal(err)
	}
	return &crew{Rig: r, ctx: ctx, job: spec.Name}
}

// until waits for a state of the job, as the leader knows it.
func (c *crew) until(t *testing.T, what string, ok func(wire.JobInfo) bool) wire.JobInfo {
	t.Helper()
	var last wire.JobInfo
	for {
		if lead, err := c.Lead(c.ctx); err == nil {
			if reply, err := c.Status(c.ctx, lead, c.job); err == nil && len(reply.Jobs) == 1 {
				if last = reply.Jobs[0]; ok(last) {
					return last
				}
			}
		}
		if err := clock.Rest(c.ctx, lookEvery); err != nil {
			t.Fatalf("%s: not yet: version %d, epoch %d, learner %s, %s %s", what, last.Version, last.Epoch, last.Learner, last.Status, last.Reason)
		}
	}
}

// on waits until a node of a role trains, and has committed something.
func (c *crew) on(t *testing.T, role cluster.Role, but string) (*Node, wire.JobInfo) {
	t.Helper()
	info := c.until(t, "a "+string(role)+" trains", func(j wire.JobInfo) bool {
		n := c.ByID(j.Learner)
		return n != nil && n.Role == role && n.Name != but && j.CommitEpoch == j.Epoch
	})
	return c.ByID(info.Learner), info
}

func (c *crew) past(t *testing.T, version uint64) wire.JobInfo {
	t.Helper()
	return c.until(t, "progress", func(j wire.JobInfo) bool { return j.Version > version })
}

// TestLearnersOfTheirOwn: jobs are trained by the nodes that only train. A change
// of the raft leader does not touch them; a killed one's successor goes on from
// the last commit; one that is told to end commits and hands on; pausing commits
// what was trained elsewhere; and without any the servers train.
func TestLearnersOfTheirOwn(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	c := newCrew(t, 2)
	first, info := c.on(t, roleLearner, "")

	lead, err := c.Lead(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := lead.Kill(); err != nil {
		t.Fatal(err)
	}
	if after := c.past(t, info.Version+50); after.Epoch != info.Epoch || after.Learner != info.Learner {
		t.Errorf("the raft leader's death moved the learner: epoch %d, then %d", info.Epoch, after.Epoch)
	}
	if err := c.Restart(lead); err != nil {
		t.Fatal(err)
	}

	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	second, info := c.on(t, roleLearner, first.Name)
	if err := c.Restart(first); err != nil {
		t.Fatal(err)
	}
	c.past(t, info.Version+50)

	if err := c.Control(c.ctx, c.job, wire.VerbPause); err != nil {
		t.Fatal(err)
	}
	paused := c.until(t, "paused", func(j wire.JobInfo) bool { return j.Status == "paused" })
	if paused.Learner != "" || paused.Version <= info.Version {
		t.Errorf("paused: %+v", paused)
	}
	if err := c.Control(c.ctx, c.job, wire.VerbResume); err != nil {
		t.Fatal(err)
	}
	if at := c.past(t, paused.Version); at.Epoch <= paused.Epoch {
		t.Errorf("resumed under epoch %d of %d", at.Epoch, paused.Epoch)
	}

	// Told to end, the one that trains now hands its job on.
	now, info := c.on(t, roleLearner, "")
	if err := now.Stop(); err != nil {
		t.Error(err)
	}
	next, after := c.on(t, roleLearner, now.Name)
	if after.Version < info.Version || after.Epoch != info.Epoch+1 {
		t.Errorf("from %s at version %d, epoch %d to %s at %d, %d", now.Name, info.Version, info.Epoch, next.Name, after.Version, after.Epoch)
	}
	_ = second

	if err := next.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, info = c.on(t, cluster.RoleServer, ""); info.Version < after.Version {
		t.Errorf("back to version %d from %d", info.Version, after.Version)
	}
	// A learner that has been back for a while takes it over, without a failure.
	if err := c.Restart(next); err != nil {
		t.Fatal(err)
	}
	_, info = c.on(t, roleLearner, "")
	c.past(t, info.Version)
}

// TestLearnerIsCutOff in one direction: the leader hears it, and it does not hear
// the leader. It gives up its lease by itself, and another trains.
func TestLearnerIsCutOff(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	c := newCrew(t, 1)
	n, info := c.on(t, roleLearner, "")
	id, err := n.ID()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Inject(c.ctx, []wire.LinkFault{{To: id, Cut: true}}, nil); err != nil {
		t.Fatal(err)
	}
	_, after := c.on(t, cluster.RoleServer, "")
	if after.Version < info.Version {
		t.Errorf("back to version %d from %d", after.Version, info.Version)
	}
	if _, err := c.Inject(c.ctx, nil, nil); err != nil {
		t.Fatal(err)
	}
	c.on(t, roleLearner, "") // moves back once it has been there for a while
}

// TestJobWaitsForResources: what no node has is said, and not granted.
func TestJobWaitsForResources(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	c := newCrew(t, 1, "mesh.learner.gpus=64")
	info := c.until(t, "a reason", func(j wire.JobInfo) bool { return j.Reason != "" })
	if !strings.Contains(info.Reason, "waits for a learner") || !strings.Contains(info.Reason, "64 needed") || info.Epoch != 0 {
		t.Errorf("%+v", info)
	}
}
