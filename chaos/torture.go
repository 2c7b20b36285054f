package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
)

// Verdicts of a round.
const (
	Valid   = "valid"
	Invalid = "invalid"
	Unknown = "unknown" // the fault met nothing under way, or the round could not be carried out
)

// TortureConfig describes a torture.
type TortureConfig struct {
	Binary string
	Dir    string // empty, for everything that is left behind
	Spec   *job.Spec
	Rounds int
	Seed   uint64
	// Kinds to draw from; none: all. With Fixed they are taken in turn.
	Kinds []string
	Fixed bool

	Servers, Learners, Workers, Slots int

	StopFor  time.Duration // how long a learner is stopped; 0: 10 s
	Hold     time.Duration // how long links stay cut, at most; 0: 4 s
	Recovery time.Duration // until Commits more commits after healing; 0: 30 s
	Commits  int           // 0: 3
	// Rounds of which the job control is checked for linearizability: every so
	// many; 0: none.
	Linearize int

	Lines io.Writer // a JSON line per round; nil: none
	Log   func(format string, args ...any)
}

// Round is what became of one round.
type Round struct {
	Round    int     `json:"round"`
	Seed     uint64  `json:"seed"` // of the attempt that counts
	Kind     string  `json:"kind"`
	Detail   string  `json:"detail"`
	Attempts int     `json:"attempts"`
	Verdict  string  `json:"verdict"`
	Reason   string  `json:"reason,omitempty"`
	Commit   bool    `json:"commit_in_flight"`
	Waiting  bool    `json:"trajectory_unacknowledged"`
	Took     float64 `json:"seconds"` // of all attempts, with their checks
	Faulty   float64 `json:"fault_seconds"`
	Recovery float64 `json:"recovery_seconds"` // from healing to the commits that show progress
	Sampled  uint64  `json:"sampled_during_fault"`
	Version  uint64  `json:"version"`
	Fenced   int     `json:"fenced_learners"` // so far
	// Linearizable is the verdict on the histories of job control and reads, "" where none was taken.
	Linearizable string `json:"linearizable,omitempty"`
}

// torture is a torture under way.
type torture struct {
	TortureConfig
	rig  *Rig
	obs  *Observer
	read map[string]bool // archive segments that an audit has read
	// disk is the node whose data directory is a small file system, "" for none.
	disk    string
	unmount func() error
}

// snapshotBytes makes servers of a torture take snapshots every few seconds:
// logs are cut off, and nodes that were away catch up by snapshots, too.
const snapshotBytes = 4 << 20

// maxAttempts bounds how often a round whose fault met nothing is repeated.
const maxAttempts = 5

// Torture runs rounds of faults against a live mesh and returns what became of
// each. The error says that it could not go on.
func Torture(ctx context.Context, cfg TortureConfig) (rounds []Round, err error) {
	t := &torture{TortureConfig: cfg}
	t.defaults()
	if err := t.mount(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.unmount()) }()
	t.rig, err = NewRig(RigConfig{
		Binary: cfg.Binary, Dir: filepath.Join(cfg.Dir, "mesh"), Servers: t.Servers, Learners: t.Learners,
		Workers: t.Workers, Slots: t.Slots, Seed: cfg.Seed, DirOf: t.dirOf, SnapshotBytes: snapshotBytes,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.rig.Close()) }()
	data, err := cfg.Spec.JSON()
	if err != nil {
		return nil, err
	}
	t.obs = Observe(t.rig, cfg.Spec.Name, 0)
	defer func() { err = errors.Join(err, t.obs.Close()) }()
	if err := t.within(ctx, time.Minute, t.rig.Voting); err != nil {
		return nil, err
	}
	if err := t.within(ctx, time.Minute, func(ctx context.Context) error { return t.rig.Submit(ctx, data) }); err != nil {
		return nil, err
	}
	if err := t.within(ctx, time.Minute, func(ctx context.Context) error { return t.obs.Progress(ctx, t.Commits) }); err != nil {
		return nil, err
	}
	seed := cfg.Seed
	for i := range cfg.Rounds {
		r := t.round(ctx, i, &seed)
		rounds = append(rounds, r)
		t.Log("round %d %s (%s): %s %s, %.1f s", r.Round, r.Kind, r.Detail, r.Verdict, r.Reason, r.Took)
		if t.Lines != nil {
			if err := json.NewEncoder(t.Lines).Encode(r); err != nil {
				return rounds, err
			}
		}
		if ctx.Err() != nil {
			return rounds, ctx.Err()
		}
		if r.Verdict == Invalid {
			return rounds, nil // what comes after a broken promise proves nothing
		}
	}
	return rounds, nil
}

func (t *torture) defaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.StopFor, 10*time.Second)
	def(&t.Hold, 4*time.Second)
	def(&t.Recovery, 30*time.Second)
	if t.Commits == 0 {
		t.Commits = 3
	}
	if t.Log == nil {
		t.Log = func(string, ...any) {}
	}
	if t.unmount == nil {
		t.unmount = func() error { return nil }
	}
}

func (t *torture) within(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}

// attempt is one try at a round: what its kind needs and what it leaves.
type attempt struct {
	*torture
	random *rand.Rand
	detail string
	from   time.Time // the fault began
	to     time.Time // and ended
	missed bool      // the fault had no effect
}

func (a *attempt) note(format string, args ...any) {
	a.detail = strings.TrimSpace(a.detail + " " + fmt.Sprintf(format, args...))
}

// strike waits until something is under way and then lets the fault begin.
func (a *attempt) strike(ctx context.Context, fault func() error) error {
	if err := a.within(ctx, a.Recovery, a.obs.Aim); err != nil {
		return fmt.Errorf("%w: %w", ErrStuck, err)
	}
	a.from = time.Now()
	err := fault()
	a.to = time.Now()
	return err
}

// hold lets the fault last for a random time up to d.
func (a *attempt) hold(ctx context.Context, d time.Duration) error {
	err := clock.Rest(ctx, time.Duration((0.25+0.75*a.random.Float64())*float64(d)))
	a.to = time.Now()
	return err
}

// pick draws one of nodes.
func (a *attempt) pick(nodes []*Node) *Node { return nodes[a.random.IntN(len(nodes))] }

// round carries out one round, again with the next seed while its fault met
// nothing that was under way.
func (t *torture) round(ctx context.Context, i int, seed *uint64) (out Round) {
	out = Round{Round: i + 1}
	began := time.Now()
	defer func() { out.Took = time.Since(began).Seconds() }()
	k, err := t.draw(i)
	if err != nil {
		out.Verdict, out.Reason = Unknown, err.Error()
		return out
	}
	out.Kind = k.name
	for out.Attempts < maxAttempts {
		out.Attempts++
		*seed++
		out.Seed = *seed
		a := &attempt{torture: t, random: rng.New(*seed, rng.Fault, uint64(i))}
		var check func(context.Context) (string, error)
		var err error
		if t.Linearize > 0 && i%t.Linearize == 0 {
			check, err = t.linearizing(ctx, fmt.Sprintf("control-%d-%d", i+1, out.Attempts), *seed)
		}
		if err == nil {
			err = k.run(ctx, a)
		}
		if err == nil {
			began := time.Now()
			err = t.within(ctx, t.Recovery, func(ctx context.Context) error { return t.obs.Progress(ctx, t.Commits) })
			out.Recovery = time.Since(began).Seconds()
			err = errors.Join(err, t.alive())
		}
		if check != nil {
			result, cerr := check(ctx)
			out.Linearizable, err = result, errors.Join(err, cerr)
		}
		if err == nil {
			err = t.audit(ctx)
		}
		out.Detail, out.Faulty = a.detail, a.to.Sub(a.from).Seconds()
		out.Version = t.obs.Ledger.Newest().Version
		t.obs.Account(func(acc *Account) {
			out.Commit, out.Waiting = acc.Overlap(a.from.UnixNano(), a.to.UnixNano())
			out.Sampled = acc.Sampled(a.from.UnixNano(), a.to.UnixNano())
			out.Fenced = acc.fenced
		})
		switch {
		case ctx.Err() != nil:
			out.Verdict, out.Reason = Unknown, ctx.Err().Error()
			return out
		case broken(err):
			out.Verdict, out.Reason = Invalid, err.Error()
			return out
		case err != nil: // this machine's, or this program's
			out.Verdict, out.Reason = Unknown, err.Error()
			return out
		case !a.missed && out.Commit && out.Waiting && out.Linearizable != Unknown:
			out.Verdict = Valid
			return out
		}
		t.Log("round %d %s (%s): once more: effect %t, met a commit %t and a trajectory %t under way, linearizable %q", i+1, k.name, a.detail, !a.missed, out.Commit, out.Waiting, out.Linearizable)
	}
	out.Verdict, out.Reason = Unknown, fmt.Sprintf("the fault had no effect, or met nothing under way, in %d attempts", out.Attempts)
	return out
}

// broken says whether an error is a promise that the mesh did not keep.
func broken(err error) bool {
	for _, promise := range []error{ErrLost, ErrDiverged, ErrFencedWrite, ErrMiscounted, ErrUncounted, ErrRegression, ErrStuck, ErrEnded, ErrDamageUnseen, ErrNotLinearizable, ErrArchive} {
		if errors.Is(err, promise) {
			return true
		}
	}
	return false
}
