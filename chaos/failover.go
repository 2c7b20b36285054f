package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// FailoverConfig describes a measurement of failovers.
type FailoverConfig struct {
	Binary   string
	Dir      string // empty
	Spec     *job.Spec
	Kills    int // of each kind
	Seed     uint64
	Servers  int
	Learners int
	Log      func(format string, args ...any)
}

// Failover is what was measured. Times are in seconds, in order of the kills.
type Failover struct {
	// Leader: from SIGKILL of the leader until a client of another server sees a
	// commit that was proposed after it.
	Leader []float64 `json:"leader_to_next_commit"`
	// Learner: from SIGKILL of the learner's node until a client sees the first
	// commit of a successor.
	Learner []float64 `json:"learner_to_successors_commit"`
	// Worker: from SIGKILL of the only worker of a job until another one samples
	// for it.
	Worker []float64 `json:"worker_to_slots_reused"`
	// Pauses: the longest time without a sampled trajectory, by any worker, from
	// the kill of a server until the next commit.
	Pauses []float64 `json:"longest_pause_of_sampling"`
}

// failover is a measurement under way.
type failover struct {
	FailoverConfig
	rig    *Rig
	random *rand.Rand
	obs    [2]*Observer // of the two jobs
}

// healthy bounds how long a mesh may take to be as before between two kills.
const healthy = time.Minute

// pollEvery is how finely a failover is seen.
const pollEvery = 5 * time.Millisecond

// MeasureFailover kills leaders, learners and workers of a live mesh and measures how
// long it takes until what they did is done by others.
func MeasureFailover(ctx context.Context, cfg FailoverConfig) (out *Failover, err error) {
	f := &failover{FailoverConfig: cfg, random: rng.New(cfg.Seed, rng.Fault)}
	if f.Log == nil {
		f.Log = func(string, ...any) {}
	}
	f.rig, err = NewRig(RigConfig{
		Binary: cfg.Binary, Dir: filepath.Join(cfg.Dir, "mesh"), Servers: cfg.Servers, Learners: cfg.Learners, Workers: 3, Slots: 1, Seed: cfg.Seed,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.rig.Close()) }()
	if err := f.rig.Voting(ctx); err != nil {
		return nil, err
	}
	if err := f.submit(ctx, 0); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.obs[0].Close()) }()
	out = &Failover{}
	for i := range cfg.Kills {
		took, pause, err := f.server(ctx, false)
		if err != nil {
			return out, err
		}
		out.Leader, out.Pauses = append(out.Leader, took), append(out.Pauses, pause)
		f.Log("leader %d: %.3f s, sampling paused %.3f s", i+1, took, pause)
	}
	for i := range cfg.Kills {
		took, pause, err := f.server(ctx, true)
		if err != nil {
			return out, err
		}
		out.Learner, out.Pauses = append(out.Learner, took), append(out.Pauses, pause)
		f.Log("learner %d: %.3f s, sampling paused %.3f s", i+1, took, pause)
	}
	if err := f.submit(ctx, 1); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, f.obs[1].Close()) }()
	for i := range cfg.Kills {
		took, err := f.worker(ctx)
		if err != nil {
			return out, err
		}
		out.Worker = append(out.Worker, took)
		f.Log("worker %d: %.3f s", i+1, took)
	}
	return out, nil
}

// submit starts the job of a number and waits until it commits.
func (f *failover) submit(ctx context.Context, number int) error {
	ctx, cancel := context.WithTimeout(ctx, healthy)
	defer cancel()
	spec := *f.Spec
	spec.Name = fmt.Sprintf("%s-%d", spec.Name, number+1)
	data, err := spec.JSON()
	if err != nil {
		return err
	}
	f.obs[number] = Observe(f.rig, spec.Name, pollEvery)
	err = f.rig.Submit(ctx, data)
	if err == nil {
		err = f.obs[number].Progress(ctx, 3)
	}
	if err != nil {
		return errors.Join(err, f.obs[number].Close())
	}
	return nil
}

// server kills the leader, or the learner's node, at a random moment.
func (f *failover) server(ctx context.Context, learner bool) (took, pause float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthy)
	defer cancel()
	obs := f.obs[0]
	if err := obs.Progress(ctx, 5); err != nil {
		return 0, 0, err
	}
	if err := clock.Rest(ctx, time.Duration((1+f.random.Float64())*float64(time.Second))); err != nil {
		return 0, 0, err
	}
	target, err := f.rig.Lead(ctx)
	if err != nil {
		return 0, 0, err
	}
	var epoch uint64
	if learner {
		reply, err := f.rig.Status(ctx, target, obs.job)
		if err != nil {
			return 0, 0, err
		}
		if len(reply.Jobs) != 1 || f.rig.ByID(reply.Jobs[0].Learner) == nil {
			return 0, 0, fmt.Errorf("nobody trains %s", obs.job)
		}
		target, epoch = f.rig.ByID(reply.Jobs[0].Learner), reply.Jobs[0].Epoch
	}
	killed := time.Now()
	if err := target.Kill(); err != nil {
		return 0, 0, err
	}
	for {
		version, ok := uint64(0), false
		obs.Account(func(a *Account) { version, ok = a.Next(killed.UnixNano(), epoch) })
		if ok {
			if seen, ok := obs.Ledger.Seen(wire.Position{Version: version}); ok {
				took = seen.Sub(killed).Seconds()
				break
			}
			// It was overtaken before a look: a later one counts, which is no sooner.
			if obs.Ledger.Newest().Version > version {
				took = time.Since(killed).Seconds()
				break
			}
		}
		if err := clock.Rest(ctx, pollEvery/2); err != nil {
			return 0, 0, fmt.Errorf("%w: %s was killed: %w", ErrStuck, target.Name, err)
		}
	}
	obs.Account(func(a *Account) { pause = a.Pause(killed.UnixNano(), time.Now().UnixNano()).Seconds() })
	return took, pause, f.rig.Restart(target)
}

// worker kills the worker of the job that has only one, and waits until another
// samples for that job.
func (f *failover) worker(ctx context.Context) (took float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthy)
	defer cancel()
	var target *Node
	var obs *Observer
	for stable := 0; stable < 20; { // a second with three workers on two jobs
		if err := clock.Rest(ctx, 50*time.Millisecond); err != nil {
			return 0, fmt.Errorf("%w: the workers are not dealt to both jobs: %w", ErrStuck, err)
		}
		before, total := target, 0
		for _, o := range f.obs {
			var nodes map[string]bool
			o.Account(func(a *Account) { nodes = a.Nodes(time.Now().Add(-500 * time.Millisecond).UnixNano()) })
			total += len(nodes)
			if len(nodes) == 1 {
				for name := range nodes {
					target, obs = f.rig.Node(name), o
				}
			}
		}
		if stable++; total != 3 || target != before || target == nil {
			stable = 0
		}
	}
	killed := time.Now()
	if err := target.Kill(); err != nil {
		return 0, err
	}
	for {
		others := false
		obs.Account(func(a *Account) {
			for name := range a.Nodes(killed.UnixNano()) {
				others = others || name != target.Name
			}
		})
		if others {
			break
		}
		if err := clock.Rest(ctx, pollEvery/2); err != nil {
			return 0, fmt.Errorf("%w: %s was killed and its slots were not replaced: %w", ErrStuck, target.Name, err)
		}
	}
	took = time.Since(killed).Seconds()
	return took, f.rig.Restart(target)
}

// Quantile returns the q-quantile of values by nearest rank; NaN of none.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// Print writes the measurement as a table, with what was promised.
func (f *Failover) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "killed\tuntil\tkills\tp50\tp99\tmax\tpromised")
	for _, row := range []struct {
		killed, until string
		values        []float64
		promised      string
	}{
		{"leader", "next commit", f.Leader, "p50 ≤ 0.6 s, p99 ≤ 1.5 s"},
		{"learner", "a successor's first commit", f.Learner, "2 s"},
		{"worker", "its share is sampled by others", f.Worker, "3 s"},
		{"either server", "longest pause of sampling", f.Pauses, "workers sample throughout: 0.5 s"},
	} {
		fmt.Fprintf(t, "%s\t%s\t%d\t%.3f s\t%.3f s\t%.3f s\t%s\n", row.killed, row.until, len(row.values),
			Quantile(row.values, 0.5), Quantile(row.values, 0.99), Quantile(row.values, 1), row.promised)
	}
	return t.Flush()
}

// Check says which promise was not kept.
func (f *Failover) Check() error {
	var errs []error
	hold := func(what string, got, want float64) {
		if !(got <= want) {
			errs = append(errs, fmt.Errorf("%w: %s took %.3f s, promised are %.1f s", ErrSlow, what, got, want))
		}
	}
	hold("p50 of leader to next commit", Quantile(f.Leader, 0.5), 0.6)
	hold("p99 of leader to next commit", Quantile(f.Leader, 0.99), 1.5)
	hold("learner to successor", Quantile(f.Learner, 1), 2)
	hold("worker to its slots' reuse", Quantile(f.Worker, 1), 3)
	hold("a pause of sampling", Quantile(f.Pauses, 1), 0.5)
	return errors.Join(errs...)
}

// ErrSlow: a failover took longer than promised.
var ErrSlow = errors.New("too slow")
