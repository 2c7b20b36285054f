package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
)

// SwarmConfig describes many workers on one machine.
type SwarmConfig struct {
	Binary      string
	Dir         string // empty
	Spec        *job.Spec
	Processes   int // of workers
	Slots, Less int // per process: of the swarm, and of the smaller one that memory is compared with
	Seed        uint64
	Idle        time.Duration // over which an idle mesh's use of the processor is measured
	Log         func(format string, args ...any)
}

// Swarm is what was measured.
type Swarm struct {
	Slots     int     `json:"slots"`
	TV        float64 `json:"tv"` // of the trained policy, exact
	Seconds   float64 `json:"seconds_of_training"`
	Rate      float64 `json:"trajectories_per_second"`
	PSS       float64 `json:"pss_mib"`      // of all worker processes while they train
	LessPSS   float64 `json:"less_pss_mib"` // the same with fewer slots
	PerSlot   float64 `json:"pss_mib_per_additional_slot"`
	IdleCores float64 `json:"idle_cores"` // that all processes of the mesh use without a job
	IdleMost  float64 `json:"idle_cores_of_one_worker_process"`
}

const mib = 1 << 20

// settle is how long a mesh trains before its memory is looked at.
const settle = 5 * time.Second

// MeasureSwarm trains with many slots and says what they cost.
func MeasureSwarm(ctx context.Context, cfg SwarmConfig) (*Swarm, error) {
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	out := &Swarm{Slots: cfg.Processes * cfg.Slots}
	var err error
	if out.LessPSS, err = cfg.less(ctx); err != nil {
		return nil, err
	}
	cfg.Log("%d slots: %.1f MiB", cfg.Processes*cfg.Less, out.LessPSS)
	if err := cfg.swarm(ctx, out); err != nil {
		return nil, err
	}
	out.PerSlot = (out.PSS - out.LessPSS) / float64(cfg.Processes*(cfg.Slots-cfg.Less))
	return out, nil
}

func (cfg *SwarmConfig) rig(slots int) (*Rig, error) {
	return NewRig(RigConfig{
		Binary: cfg.Binary, Dir: filepath.Join(cfg.Dir, fmt.Sprintf("slots-%d", slots)),
		Servers: 1, Workers: cfg.Processes, Slots: slots, Seed: cfg.Seed, OneMachine: true,
	})
}

// less measures the memory of the smaller mesh, on a job that does not end.
func (cfg *SwarmConfig) less(ctx context.Context) (pss float64, err error) {
	r, err := cfg.rig(cfg.Less)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	spec := *cfg.Spec
	spec.Train.Updates = 1_000_000_000
	if err := cfg.begin(ctx, r, &spec, cfg.Less); err != nil {
		return 0, err
	}
	return workersPSS(r)
}

// begin submits a job, waits until every slot has a session, and a little more.
func (cfg *SwarmConfig) begin(ctx context.Context, r *Rig, spec *job.Spec, slots int) error {
	ctx, cancel := context.WithTimeout(ctx, healthy)
	defer cancel()
	data, err := spec.JSON()
	if err != nil {
		return err
	}
	if err := r.Submit(ctx, data); err != nil {
		return err
	}
	for {
		lead, err := r.Lead(ctx)
		if err != nil {
			return err
		}
		if reply, err := r.Status(ctx, lead, spec.Name); err == nil && len(reply.Jobs) == 1 && reply.Jobs[0].Sessions >= cfg.Processes*slots {
			return clock.Rest(ctx, settle)
		}
		if err := clock.Rest(ctx, lookEvery); err != nil {
			return fmt.Errorf("%w: not every slot samples: %w", ErrStuck, err)
		}
	}
}

func (cfg *SwarmConfig) swarm(ctx context.Context, out *Swarm) (err error) {
	r, err := cfg.rig(cfg.Slots)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if out.IdleCores, out.IdleMost, err = cfg.idle(ctx, r); err != nil {
		return err
	}
	cfg.Log("idle: %.3f cores, %.3f in one worker process", out.IdleCores, out.IdleMost)
	began := time.Now()
	if err := cfg.begin(ctx, r, cfg.Spec, cfg.Slots); err != nil {
		return err
	}
	if out.PSS, err = workersPSS(r); err != nil {
		return err
	}
	cfg.Log("%d slots: %.1f MiB", out.Slots, out.PSS)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	if err := r.Finished(ctx, cfg.Spec.Name); err != nil {
		return err
	}
	out.Seconds = time.Since(began).Seconds()
	state, err := r.State(ctx, cfg.Spec.Name)
	if err != nil {
		return err
	}
	out.Rate = float64(state.Info.Trajectories) / out.Seconds
	report, err := r.Quality(ctx, cfg.Spec)
	if err != nil {
		return err
	}
	out.TV = report.Distances.TV
	return nil
}

// idle measures what a mesh without a job uses, once its members know each other.
func (cfg *SwarmConfig) idle(ctx context.Context, r *Rig) (all, most float64, err error) {
	if err := clock.Rest(ctx, settle); err != nil {
		return 0, 0, err
	}
	before := map[string]time.Duration{}
	for _, n := range r.Nodes() {
		if before[n.Name], err = cpuTime(n.PID()); err != nil {
			return 0, 0, err
		}
	}
	if err := clock.Rest(ctx, cfg.Idle); err != nil {
		return 0, 0, err
	}
	for _, n := range r.Nodes() {
		now, err := cpuTime(n.PID())
		if err != nil {
			return 0, 0, err
		}
		cores := (now - before[n.Name]).Seconds() / cfg.Idle.Seconds()
		all += cores
		if n.Role == cluster.RoleWorker {
			most = max(most, cores)
		}
	}
	return all, most, nil
}

func workersPSS(r *Rig) (total float64, err error) {
	for _, n := range r.Nodes(cluster.RoleWorker) {
		bytes, err := pss(n.PID())
		if err != nil {
			return 0, fmt.Errorf("memory of %s: %w", n.Name, err)
		}
		total += float64(bytes) / mib
	}
	return total, nil
}

// pss is the proportional set size of a process, in bytes.
func pss(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "Pss:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("smaps_rollup has no Pss")
}

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on Linux.
const tick = 10 * time.Millisecond

// cpuTime is what a process has used of the processor.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold spaces; utime and stime are the 12th and
	// 13th fields after it.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// Print writes the measurement as a table, with what was promised.
func (s *Swarm) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "what\tmeasured\tpromised")
	fmt.Fprintf(t, "slots\t%d\t200\n", s.Slots)
	fmt.Fprintf(t, "TV after training\t%.4f\t≤ 0.05\n", s.TV)
	fmt.Fprintf(t, "trajectories trained on\t%.0f /s\t\n", s.Rate)
	fmt.Fprintf(t, "PSS per additional slot\t%.3f MiB\t≤ 2 MiB\n", s.PerSlot)
	fmt.Fprintf(t, "idle worker process\t%.1f %% of a core\t≤ 5 %%\n", 100*s.IdleMost)
	fmt.Fprintf(t, "idle mesh, all processes\t%.1f %% of a core\t\n", 100*s.IdleCores)
	return t.Flush()
}

// ErrCostly: a mesh did not learn, or used more than promised.
var ErrCostly = errors.New("promise about many workers not kept")

// Check says which promise was not kept.
func (s *Swarm) Check() error {
	var errs []error
	if !(s.TV <= 0.05) {
		errs = append(errs, fmt.Errorf("%w: TV %.4f", ErrCostly, s.TV))
	}
	if !(s.PerSlot <= 2) {
		errs = append(errs, fmt.Errorf("%w: %.3f MiB per additional slot", ErrCostly, s.PerSlot))
	}
	if !(s.IdleMost <= 0.05) {
		errs = append(errs, fmt.Errorf("%w: an idle worker process uses %.1f %% of a core", ErrCostly, 100*s.IdleMost))
	}
	return errors.Join(errs...)
}
