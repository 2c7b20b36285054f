package chaos

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Check holds the servers' count, read after the moment since (Unix nanoseconds)
// while the job was at rest, against the journals, read after that: nobody's mark covers what its worker has not sampled, no worker
// holds a mark that the state does not, and each update was made of a batch of
// trajectories that count once.
func (a *Account) Check(s *wire.StateReply, batch int, since int64) error {
	out := slices.Clone(a.broken)
	known := map[string]bool{}
	var admitted, total uint64
	for _, x := range s.Sessions {
		known[x.ID] = true
		admitted += x.Admitted
		total += x.Mark
		own := a.sessions[x.ID]
		switch {
		case x.Admitted+x.Stale+x.Refused != x.Mark:
			out = append(out, fmt.Errorf("%w: session %s has mark %d and %d+%d+%d dispositions", ErrMiscounted, x.ID, x.Mark, x.Admitted, x.Stale, x.Refused))
		case own == nil && x.Mark > 0:
			out = append(out, fmt.Errorf("%w: session %s counts %d trajectories, no worker ever had it", ErrMiscounted, x.ID, x.Mark))
		case own != nil && x.Mark > own.top():
			out = append(out, fmt.Errorf("%w: session %s counts %d trajectories, its worker sampled %d", ErrMiscounted, x.ID, x.Mark, own.top()))
		case own != nil && x.Mark < before(own.marks, since):
			out = append(out, fmt.Errorf("%w: session %s has mark %d, its worker was given %d", ErrUncounted, x.ID, x.Mark, before(own.marks, since)))
		case x.Refused > 0:
			out = append(out, fmt.Errorf("%w: session %s: %d trajectories of an honest worker were refused", ErrMiscounted, x.ID, x.Refused))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.sessions)) {
		if !known[id] && a.sessions[id].opened <= since {
			out = append(out, fmt.Errorf("%w: session %s was opened and is not in the state", ErrUncounted, id))
		}
	}
	out = append(out, a.history(s.Info)...)
	if want := s.Info.Version * uint64(batch); admitted != want {
		out = append(out, fmt.Errorf("%w: %d updates of %d were made of %d trajectories, want %d", ErrMiscounted, s.Info.Version, batch, admitted, want))
	}
	if total != s.Info.Trajectories {
		out = append(out, fmt.Errorf("%w: the marks cover %d trajectories, the job counts %d", ErrMiscounted, total, s.Info.Trajectories))
	}
	return errors.Join(out...)
}

// told is a version that a learner was told is committed, or that a worker was
// given as such.
type told struct {
	at    wire.Position
	epoch uint64
	by    string
}

// history holds what learners and workers were told against the job as it is:
// all of it is one history, in which no epoch returns once a newer one has
// committed, and the job is where that history ended or beyond.
func (a *Account) history(now wire.JobInfo) (out []error) {
	var all []told
	proposed := map[told]bool{}
	for _, p := range a.proposals {
		at := wire.Position{Generation: p.generation, Version: p.version}
		proposed[told{at: at, epoch: p.epoch}] = true
		if p.committed {
			all = append(all, told{at, p.epoch, "the learner on " + p.node})
		}
	}
	for at, x := range a.adopted {
		all = append(all, told{at, x.epoch, "a worker"})
		if !proposed[told{at: at, epoch: x.epoch}] {
			out = append(out, fmt.Errorf("%w: version %d of epoch %d was published, no learner proposed it", ErrFencedWrite, at.Version, x.epoch))
		}
	}
	slices.SortFunc(all, func(x, y told) int { return cmp.Or(byPosition(x.at, y.at), cmp.Compare(x.epoch, y.epoch)) })
	for i := 1; i < len(all); i++ {
		x, y := all[i-1], all[i]
		switch {
		case x.at == y.at && x.epoch != y.epoch:
			out = append(out, fmt.Errorf("%w: version %d is of epoch %d for %s and of epoch %d for %s", ErrLost, x.at.Version, x.epoch, x.by, y.epoch, y.by))
		case y.epoch < x.epoch:
			out = append(out, fmt.Errorf("%w: version %d of epoch %d (%s) came after version %d of epoch %d (%s)", ErrFencedWrite, y.at.Version, y.epoch, y.by, x.at.Version, x.epoch, x.by))
		}
	}
	present := wire.Position{Generation: now.Generation, Version: now.Version}
	if n := len(all); n > 0 && present.Before(all[n-1].at) {
		out = append(out, fmt.Errorf("%w: %s has version %d, %d is the present one", ErrLost, all[n-1].by, all[n-1].at.Version, present.Version))
	}
	return out
}

// CheckPublished holds the parameters that workers sampled with against the
// committed ones of the present version, of a job that publishes them as they are.
func (a *Account) CheckPublished(s *wire.StateReply) error {
	x, ok := a.adopted[wire.Position{Generation: s.Info.Generation, Version: s.Info.Version}]
	sum := sha256.Sum256(s.Params)
	if want := hex.EncodeToString(sum[:]); ok && x.digest != want {
		return fmt.Errorf("%w: version %d was published as %s and is %s", ErrLost, s.Info.Version, x.digest, want)
	}
	return nil
}

// audit brings the job to rest, compares the replicas and holds the state
// against the journals, and lets the job go on.
func (t *torture) audit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.Recovery)
	defer cancel()
	name := t.Spec.Name
	if err := t.rig.Control(ctx, name, wire.VerbPause); err != nil {
		return fmt.Errorf("%w: pause: %w", ErrStuck, err)
	}
	if err := t.meet(ctx); err != nil {
		return err
	}
	t.obs.Sync()
	since := time.Now().UnixNano()
	state, err := t.rig.State(ctx, name)
	if err != nil {
		return fmt.Errorf("%w: state: %w", ErrStuck, err)
	}
	t.obs.Sync()
	broken := t.obs.Ledger.Check(state.Info)
	t.obs.Account(func(a *Account) {
		broken = errors.Join(broken, a.Check(state, t.Spec.Train.Batch, since))
		if t.Spec.Mesh.Publish != wire.BF16 {
			broken = errors.Join(broken, a.CheckPublished(state))
		}
	})
	if broken = errors.Join(broken, t.auditArchive(ctx, state)); broken != nil {
		return broken
	}
	if err := t.rig.Control(ctx, name, wire.VerbResume); err != nil {
		return fmt.Errorf("%w: resume: %w", ErrStuck, err)
	}
	return nil
}

// ErrEnded: a process ended that nobody had killed.
var ErrEnded = errors.New("a process ended by itself")

// alive says which processes do not run: every kind leaves all of them running.
func (t *torture) alive() error {
	var errs []error
	for _, n := range t.rig.Nodes() {
		if !n.Running() {
			errs = append(errs, fmt.Errorf("%w: %s: %s", ErrEnded, n.Name, lastLine(n.Tail(2000))))
		}
	}
	return errors.Join(errs...)
}

// meet waits until every replica has applied the same index, with the same chain.
func (t *torture) meet(ctx context.Context) error {
	for {
		silent := false
		var told []string
		chains := map[uint64][]byte{} // by index
		for _, n := range t.rig.Nodes(cluster.RoleServer, roleLearner) {
			reply, err := t.rig.Status(ctx, n, t.Spec.Name)
			if err != nil {
				if err := t.alive(); err != nil {
					return err
				}
				told, silent = append(told, fmt.Sprintf("%s: %v", n.Name, err)), true
				continue
			}
			t.obs.Ledger.See(n.Name, reply, t.Spec.Name)
			told = append(told, fmt.Sprintf("%s: index %d, chain %.4x", n.Name, reply.Applied, reply.Chain))
			if other, ok := chains[reply.Applied]; ok && !bytes.Equal(other, reply.Chain) {
				return fmt.Errorf("%w: %s", ErrDiverged, strings.Join(told, "; "))
			}
			chains[reply.Applied] = reply.Chain
		}
		if len(chains) == 1 && !silent {
			return nil
		}
		if err := clock.Rest(ctx, lookEvery); err != nil {
			return fmt.Errorf("%w: the replicas do not meet: %s: %w", ErrStuck, strings.Join(told, "; "), err)
		}
	}
}
