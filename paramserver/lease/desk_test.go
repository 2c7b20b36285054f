package lease_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/paramserver/lease"
)

var start = time.Unix(1000, 0)

func server(id string) lease.Node {
	return lease.Node{ID: id, Addr: id + ":1", Has: job.Resources{CPUs: 2, MemoryMB: 1024}}
}

func learner(id string) lease.Node {
	n := server(id)
	n.Dedicated = true
	return n
}

// desk is a leader that is a server itself.
func desk(t *testing.T, predecessor string) *lease.Desk {
	t.Helper()
	d := lease.New("leader", predecessor, start)
	d.Join(server("leader"), map[string]uint64{}, start)
	return d
}

func after(d time.Duration) time.Time { return start.Add(d) }

// one expects exactly one grant and applies it.
func one(t *testing.T, d *lease.Desk, j *lease.Job, now time.Time) lease.Grant {
	t.Helper()
	p := d.Step([]lease.Job{*j}, now)
	if len(p.Grants) != 1 || p.Grants[0].Epoch != j.Epoch+1 || p.Grants[0].Job != j.ID {
		t.Fatalf("plan %+v for %+v", p, *j)
	}
	g := p.Grants[0]
	d.Granted(g)
	j.Learner, j.Epoch = g.Node, g.Epoch
	if p := d.Step([]lease.Job{*j}, now); len(p.Grants) != 0 {
		t.Fatalf("granted twice: %+v", p)
	}
	return g
}

func TestPlacement(t *testing.T) {
	gpu := learner("gpu")
	gpu.Has.GPUs = 1
	big := server("big")
	big.Has.MemoryMB = 1 << 20
	for name, c := range map[string]struct {
		nodes []lease.Node
		needs job.Resources
		want  string // node, or what the text of the refusal contains
		why   string
	}{
		"the leader alone":               {nil, job.Resources{}, "leader", "it had no learner; the leader"},
		"servers are equal: the leader":  {[]lease.Node{server("a"), server("z")}, job.Resources{}, "leader", "the leader"},
		"one that only trains":           {[]lease.Node{server("a"), learner("l")}, job.Resources{}, "l", "it had no learner; a node that only trains"},
		"a GPU":                          {[]lease.Node{learner("a"), gpu}, job.Resources{GPUs: 1}, "gpu", "only trains"},
		"memory of another server":       {[]lease.Node{server("a"), big}, job.Resources{MemoryMB: 4096}, "big", "the server with the fewest jobs"},
		"nobody has that many":           {[]lease.Node{gpu}, job.Resources{GPUs: 2}, "", "gpu: 1 of 1 GPUs free, 2 needed; leader: 0 of 0 GPUs free, 2 needed"},
		"nobody has both in one machine": {[]lease.Node{gpu, big}, job.Resources{GPUs: 1, MemoryMB: 4096}, "", "1024 of 1024 MiB of memory free, 4096 needed"},
	} {
		d := desk(t, "")
		for _, n := range c.nodes {
			d.Join(n, map[string]uint64{}, start)
		}
		p := d.Step([]lease.Job{{ID: "j", Needs: c.needs}}, start)
		switch {
		case c.want == "" && (len(p.Grants) != 0 || !strings.Contains(p.Waiting["j"], c.why)):
			t.Errorf("%s: %+v, want it to wait: %s", name, p, c.why)
		case c.want != "" && (len(p.Grants) != 1 || p.Grants[0].Node != c.want || p.Grants[0].Addr != c.want+":1" || !strings.Contains(p.Grants[0].Reason, c.why)):
			t.Errorf("%s: %+v, want %s: %s", name, p, c.want, c.why)
		}
	}
}

// TestResourcesAreReserved: what a job asked for is not given to another, and is
// free again when its learner has ended.
func TestResourcesAreReserved(t *testing.T) {
	d := lease.New("leader", "", start)
	gpu := learner("gpu")
	gpu.Has.GPUs = 1
	d.Join(gpu, map[string]uint64{}, start)
	a, b := lease.Job{ID: "a", Needs: job.Resources{GPUs: 1}}, lease.Job{ID: "b", Needs: job.Resources{GPUs: 1}, Priority: 1}
	p := d.Step([]lease.Job{a, b}, start)
	if len(p.Grants) != 1 || p.Grants[0].Job != "b" || !strings.Contains(p.Waiting["a"], "0 of 1 GPUs free, 1 needed") {
		t.Fatalf("the job of higher priority gets the GPU: %+v", p)
	}
	d.Granted(p.Grants[0])
	b.Learner, b.Epoch = "gpu", 1
	if p := d.Step([]lease.Job{a, b}, start); len(p.Grants) != 0 {
		t.Fatalf("one GPU for two: %+v", p)
	}
	d.Released("gpu", "b", 1, 10, false, start)
	if p := d.Step([]lease.Job{a}, start); len(p.Grants) != 1 {
		t.Errorf("the GPU is free: %+v", p)
	}
}

// TestJobsAreSpread over the servers when there are no learners.
func TestJobsAreSpread(t *testing.T) {
	d := desk(t, "")
	d.Join(server("a"), map[string]uint64{}, start)
	d.Join(server("b"), map[string]uint64{}, start)
	var jobs []lease.Job
	for i := range 6 {
		jobs = append(jobs, lease.Job{ID: fmt.Sprint(i)})
	}
	got := map[string]int{}
	for _, g := range d.Step(jobs, start).Grants {
		got[g.Node]++
	}
	if want := map[string]int{"leader": 2, "a": 2, "b": 2}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestLossOfALearner: at once when its connection breaks, after Expiry of
// silence when it does not, and not before.
func TestLossOfALearner(t *testing.T) {
	d := desk(t, "")
	d.Join(learner("a"), map[string]uint64{}, start)
	d.Join(learner("b"), map[string]uint64{}, start)
	j := lease.Job{ID: "j"}
	if g := one(t, d, &j, start); g.Node != "a" {
		t.Fatalf("%+v", g)
	}
	d.Leave("a", "lost its connection to the leader")
	if g := one(t, d, &j, start); g.Node != "b" || g.Reason != "a lost its connection to the leader; a node that only trains" {
		t.Fatalf("%+v", g)
	}
	for ms := 100; ms <= 600; ms += 100 {
		if p := d.Step([]lease.Job{j}, after(time.Duration(ms)*time.Millisecond)); len(p.Expired)+len(p.Grants) > 0 {
			t.Fatalf("after %d ms of silence: %+v", ms, p)
		}
	}
	p := d.Step([]lease.Job{j}, after(700*time.Millisecond))
	if !slices.Equal(p.Expired, []string{"b"}) || len(p.Grants) != 1 || p.Grants[0].Node != "leader" || p.Grants[0].Reason != "b said nothing for 700 ms; the leader" {
		t.Errorf("after silence: %+v", p)
	}
}

// TestLeaderThatStoodStill does not take others' silence for theirs.
func TestLeaderThatStoodStill(t *testing.T) {
	d := desk(t, "")
	d.Join(learner("a"), map[string]uint64{}, start)
	j := lease.Job{ID: "j"}
	one(t, d, &j, start)
	if p := d.Step([]lease.Job{j}, after(time.Minute)); len(p.Expired) > 0 || len(p.Grants) > 0 {
		t.Errorf("after a pause of its own: %+v", p)
	}
	for ms := 100; ; ms += 100 {
		p := d.Step([]lease.Job{j}, after(time.Minute+time.Duration(ms)*time.Millisecond))
		if len(p.Expired) > 0 {
			if ms < 600 || ms > 800 {
				t.Errorf("expired %d ms later", ms)
			}
			break
		}
	}
}

// TestNewLeader: learners keep their leases through a change of leaders, if they
// connect in time; the lease of the leader before is over at once.
func TestNewLeader(t *testing.T) {
	held := lease.Job{ID: "j", Epoch: 7, Learner: "a"}
	d := desk(t, "before")
	if p := d.Step([]lease.Job{held}, after(500*time.Millisecond)); len(p.Grants) != 0 || p.Waiting["j"] == "" {
		t.Fatalf("too early: %+v", p)
	}
	d.Join(learner("a"), map[string]uint64{"j": 7}, after(500*time.Millisecond))
	if p := d.Step([]lease.Job{held}, after(800*time.Millisecond)); len(p.Grants) != 0 || len(p.Waiting) != 0 {
		t.Fatalf("it is there: %+v", p)
	}
	// A new process of the same node has no lease.
	d.Join(learner("a"), map[string]uint64{}, after(900*time.Millisecond))
	if g := one(t, d, &held, after(900*time.Millisecond)); g.Node != "a" || g.Epoch != 8 || g.Reason != "its learner there has ended; a node that only trains" {
		t.Errorf("%+v", g)
	}

	d = desk(t, "before")
	gone := lease.Job{ID: "j", Epoch: 7, Learner: "before"}
	if g := one(t, d, &gone, start); g.Reason != "before leads no more; the leader" {
		t.Errorf("%+v", g)
	}
	d = desk(t, "before")
	lost := lease.Job{ID: "j", Epoch: 7, Learner: "a"}
	d.Step([]lease.Job{lost}, after(300*time.Millisecond))
	if g := one(t, d, &lost, after(lease.Expiry)); g.Reason != "a did not find the new leader; the leader" {
		t.Errorf("%+v", g)
	}
}

func TestFailures(t *testing.T) {
	d := desk(t, "")
	j := lease.Job{ID: "j"}
	now := start
	for n := 1; n <= lease.MaxFailures; n++ {
		one(t, d, &j, now)
		giveUp := d.Released("leader", "j", j.Epoch, 0, true, now)
		if giveUp != (n == lease.MaxFailures) {
			t.Fatalf("failure %d: give up %t", n, giveUp)
		}
		p := d.Step([]lease.Job{j}, now)
		if len(p.Grants) != 0 || !strings.Contains(p.Waiting["j"], "failed") {
			t.Fatalf("no pause after failure %d: %+v", n, p)
		}
		now = now.Add(time.Second)
	}
	// Nobody got it while it was not paused yet; then it is not among the running.
	d.Step(nil, now)
	if d.Failures("j") != 0 {
		t.Error("a resumed job begins with failures")
	}
	// A committed version in between forgets them.
	for n := range 10 {
		one(t, d, &j, now)
		if d.Released("leader", "j", j.Epoch, uint64(n+1), true, now) {
			t.Fatalf("given up although it goes on")
		}
		now = now.Add(time.Second)
	}
	if d.Released("leader", "j", j.Epoch+5, 0, true, now) || d.Released("nobody", "j", j.Epoch, 0, true, now) {
		t.Error("a failure of a lease that is over counts")
	}
}

// TestMove: a job on a server moves to a learner that has been there for a while.
func TestMove(t *testing.T) {
	d := desk(t, "")
	j := lease.Job{ID: "j"}
	one(t, d, &j, start)
	d.Join(learner("l"), map[string]uint64{}, after(time.Second))
	steps := func(from, to time.Duration) (p lease.Plan) {
		for at := from; at <= to; at += 100 * time.Millisecond {
			d.Heard("l", after(at))
			if p = d.Step([]lease.Job{j}, after(at)); len(p.Moves) > 0 || len(p.Grants) > 0 {
				return p
			}
		}
		return p
	}
	if p := steps(time.Second, 5900*time.Millisecond); len(p.Moves) != 0 {
		t.Fatalf("too early: %+v", p)
	}
	if p := steps(6*time.Second, 7*time.Second); !slices.Equal(p.Moves, []string{"j"}) {
		t.Fatalf("%+v", p)
	}
	if p := steps(6*time.Second, 8*time.Second); len(p.Moves) != 0 {
		t.Fatalf("told twice: %+v", p)
	}
	d.Released("leader", "j", 1, 5, false, after(8*time.Second))
	if g := one(t, d, &j, after(8*time.Second)); g.Node != "l" {
		t.Errorf("%+v", g)
	}
	if p := steps(8*time.Second, 20*time.Second); len(p.Moves)+len(p.Grants) != 0 {
		t.Errorf("it stays: %+v", p)
	}
}

// TestLeaving: a node that is about to end gets nothing more.
func TestLeaving(t *testing.T) {
	d := desk(t, "")
	d.Join(learner("l"), map[string]uint64{}, start)
	j := lease.Job{ID: "j"}
	one(t, d, &j, start)
	d.Leaving("l")
	if p := d.Step([]lease.Job{j}, start); len(p.Grants) != 0 {
		t.Fatalf("it still trains: %+v", p)
	}
	d.Released("l", "j", j.Epoch, 0, false, start)
	if g := one(t, d, &j, start); g.Node != "leader" {
		t.Errorf("%+v", g)
	}
}

// TestDraining: a job that is being stopped gets no new learner.
func TestDraining(t *testing.T) {
	d := desk(t, "")
	if p := d.Step([]lease.Job{{ID: "j", Draining: true}}, start); len(p.Grants) != 0 {
		t.Errorf("%+v", p)
	}
}

// TestRandomLives: whatever joins, leaves, falls silent, ends or changes hands,
// a plan never grants to a node that is not there or has not what is needed,
// never grants what a connected node holds, and leaves no job without a learner
// for long if there is a node for it.
func TestRandomLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := start
		d := lease.New("leader", "", now)
		d.Join(server("leader"), map[string]uint64{}, now)
		nodes := map[string]lease.Node{"leader": server("leader")}
		heard := map[string]time.Time{"leader": now}
		held := map[string]map[string]uint64{"leader": {}} // by node and job
		jobs := map[string]*lease.Job{}
		idle := map[string]int{} // steps without a learner
		paused := map[string]bool{}
		for step := range 200 {
			now = now.Add(time.Duration(rapid.IntRange(1, 250).Draw(t, "ms")) * time.Millisecond)
			id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "node")
			name := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "job")
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0:
				n := server(id)
				n.Dedicated = rapid.Bool().Draw(t, "dedicated")
				n.Has.GPUs = rapid.IntRange(0, 1).Draw(t, "gpus")
				nodes[id], held[id], heard[id] = n, map[string]uint64{}, now
				d.Join(n, map[string]uint64{}, now)
			case 1:
				d.Leave(id, "left")
				delete(nodes, id)
				delete(held, id)
			case 2:
				if jobs[name] == nil {
					jobs[name] = &lease.Job{ID: name, Needs: job.Resources{GPUs: rapid.IntRange(0, 1).Draw(t, "needs")}}
				}
			case 3:
				if j := jobs[name]; j != nil {
					for n, l := range held {
						if l[name] == j.Epoch {
							d.Released(n, name, j.Epoch, uint64(step), rapid.Bool().Draw(t, "failed"), now)
							delete(l, name)
						}
					}
				}
			case 4:
				paused[name] = !paused[name]
				idle[name] = 0
			default:
				for n := range nodes {
					d.Heard(n, now)
					heard[n] = now
				}
			}
			var list []lease.Job
			for _, n := range slices.Sorted(maps.Keys(jobs)) {
				if !paused[n] {
					list = append(list, *jobs[n])
				}
			}
			p := d.Step(list, now)
			for _, n := range p.Expired {
				if n == "leader" || now.Sub(heard[n]) <= lease.Expiry {
					t.Fatalf("%s expired %s after it was heard", n, now.Sub(heard[n]))
				}
				delete(nodes, n)
				delete(held, n)
			}
			for _, g := range p.Grants {
				j := jobs[g.Job]
				n, there := nodes[g.Node]
				if !there || n.Has.GPUs < j.Needs.GPUs || g.Epoch != j.Epoch+1 {
					t.Fatalf("grant %+v of %+v to %+v", g, *j, n)
				}
				if h := held[j.Learner]; h != nil && j.Epoch > 0 && h[j.ID] == j.Epoch {
					t.Fatalf("grant %+v of what %s holds", g, j.Learner)
				}
				d.Granted(g)
				j.Learner, j.Epoch = g.Node, g.Epoch
				held[g.Node][g.Job] = g.Epoch
				if d.Holder(g.Job, g.Epoch) != g.Node {
					t.Fatalf("%+v is not held", g)
				}
			}
			for _, j := range jobs {
				if h := held[j.Learner]; h != nil && j.Epoch > 0 && h[j.ID] == j.Epoch || j.Needs.GPUs > 0 || paused[j.ID] {
					idle[j.ID] = 0
				} else if idle[j.ID]++; idle[j.ID] > 100 {
					t.Fatalf("%+v has no learner: %+v", *j, p)
				}
			}
		}
	})
}
