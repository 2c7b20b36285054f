package paramserver

import (
	"context"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// Collector turns what a learner was trained on into rows of its job's archive.
// Whether a trajectory becomes one follows from the policy and, for a sample,
// from (seed, session, sequence number) alone: a successor that gets the same
// trajectory again decides alike.
type Collector struct {
	policy   job.ArchivePolicy
	seed     uint64
	u        *Updater
	workerOf func(session string) string
	clock    clock.Clock

	rows    []archive.Row
	known   map[string]string // worker by session; may be forgotten
	told    *memory           // objects archived: distinct, best
	pcg     *rand.PCG
	session string // that hash is of
	hash    uint64
}

// NewCollector returns nil for a job without an archive.
func NewCollector(u *Updater, workerOf func(session string) string, c clock.Clock) (*Collector, error) {
	policy, err := job.ParseArchive(u.Spec.Mesh.Archive)
	if err != nil || policy.Keep == job.ArchiveOff {
		return nil, err
	}
	k := &Collector{policy: policy, seed: u.Spec.Seed, u: u, workerOf: workerOf, clock: c, known: map[string]string{}, pcg: new(rand.PCG)}
	if policy.Keep == job.ArchiveDistinct || policy.Keep == job.ArchiveBest {
		k.told = newMemory(rememberTexts)
	}
	return k, nil
}

// Updated looks at the fresh trajectories of the update that was just made.
func (k *Collector) Updated(up *Update) error {
	states := k.u.objects
	now := k.clock.Now().UnixMicro()
	for i := range up.Batch[:up.Fresh] {
		t := &up.Batch[i]
		if k.policy.Keep == job.ArchiveSample && !k.sampled(t) {
			continue
		}
		text := states.Text(i)
		if text == "" || len(text) > archive.MaxText {
			return fmt.Errorf("an object's text has %d bytes; an archive takes 1 to %d: set mesh.archive to off", len(text), archive.MaxText)
		}
		if k.policy.Keep == job.ArchiveBest && !k.u.best.holds(text, t.LogReward) || k.told != nil && !k.told.add(text) {
			continue
		}
		k.rows = append(k.rows, archive.Row{
			Object: text, LogReward: t.LogReward, Version: int64(t.Version), Time: now,
			Worker: k.worker(t.Session), Session: t.Session, Seq: int64(t.Seq),
		})
	}
	return nil
}

// sampled draws for one trajectory.
func (k *Collector) sampled(t *wire.Trajectory) bool {
	if t.Session != k.session || k.session == "" {
		h := fnv.New64a()
		h.Write([]byte(t.Session))
		k.session, k.hash = t.Session, h.Sum64()
	}
	rng.Reseed(k.pcg, k.seed, rng.Archive, k.hash, t.Seq)
	return float64(k.pcg.Uint64()>>11)/(1<<53) < k.policy.Rate
}

func (k *Collector) worker(session string) string {
	if w, ok := k.known[session]; ok {
		return w
	}
	if len(k.known) >= maxKnown {
		clear(k.known)
	}
	w := k.workerOf(session)
	k.known[session] = w
	return w
}

// Take returns the rows since the last call, for the Commit with these marks, and
// what that Commit's segment covers: everything that the marks move over.
func (k *Collector) Take(marks []fsm.Mark) ([]archive.Row, []fsm.Range, error) {
	rows := k.rows
	k.rows = make([]archive.Row, 0, len(rows))
	var ranges []fsm.Range
	var admitted uint64
	for _, m := range marks {
		admitted += m.Admitted
		if moved := m.Admitted + m.Stale + m.Refused; moved > 0 {
			ranges = append(ranges, fsm.Range{Session: m.Session, First: m.Seq - moved + 1, Last: m.Seq})
		}
	}
	slices.SortFunc(ranges, func(a, b fsm.Range) int { return strings.Compare(a.Session, b.Session) })
	if n := uint64(len(rows)); n > admitted || n < admitted && k.policy.Keep == job.ArchiveAll {
		return nil, nil, fmt.Errorf("%d rows to archive, and marks of %d trajectories that were trained on", n, admitted)
	}
	return rows, ranges, nil
}

// Recall makes a collector that keeps an object once remember the newest of those
// that are archived already.
func (k *Collector) Recall(ctx context.Context, src ObjectSource) error {
	if k.told == nil || src == nil {
		return nil
	}
	left := rememberTexts
	return src.Newest(ctx, 1<<40, func(o Object) bool {
		k.told.add(o.Text)
		left--
		return left > 0
	})
}

// holds says whether an object is among the best, with that log-reward.
func (b *bestKeeper) holds(text string, logReward float64) bool {
	_, ok := slices.BinarySearchFunc(b.list, fsm.Object{Text: text, LogReward: logReward}, bestFirst)
	return ok
}

// rememberTexts is how many of the last texts a memory holds at least.
const rememberTexts = 1 << 18

// memory remembers texts by a 64-bit hash, the newest n and up to as many before.
type memory struct {
	n        int
	seed     maphash.Seed
	now, old map[uint64]struct{}
}

func newMemory(n int) *memory {
	return &memory{n: n, seed: maphash.MakeSeed(), now: map[uint64]struct{}{}}
}

// add answers whether a text is new.
func (m *memory) add(text string) bool {
	h := maphash.String(m.seed, text)
	if _, ok := m.now[h]; ok {
		return false
	}
	_, before := m.old[h]
	if len(m.now) >= m.n {
		m.now, m.old = map[uint64]struct{}{}, m.now
	}
	m.now[h] = struct{}{}
	return !before
}

// archivedObjects is the archive of a job as an ObjectSource.
type archivedObjects struct {
	node     *archive.Node
	job      string
	segments []fsm.Segment
}

// ArchivedObjects is the Objects of a Config: it reads what a job's archive lists
// at the time of the call.
func ArchivedObjects(node *archive.Node, state archive.State) func(*fsm.Job) ObjectSource {
	return func(j *fsm.Job) ObjectSource {
		if j.ArchivedRows == 0 {
			return nil
		}
		src := &archivedObjects{node: node, job: j.ID}
		state.Read(func(s *fsm.State) { src.segments = s.Segments(j.ID) })
		return src
	}
}

// Newest implements ObjectSource.
func (a *archivedObjects) Newest(ctx context.Context, maxBytes int64, yield func(Object) bool) error {
	size := int64(0)
	return archive.WalkBack(ctx, a.segments, a.node.Fetcher(a.job), func(r *archive.Row) bool {
		if size += int64(len(r.Object)) + 16; size > maxBytes {
			return false
		}
		return yield(Object{Text: r.Object, LogReward: r.LogReward, Version: uint64(r.Version), Worker: r.Session})
	})
}

// archiving is the archive of one run of a learner.
type archiving struct {
	*Collector
	lease    Lease
	node     *archive.Node
	state    archive.State
	changed  func() <-chan struct{}
	propose  func(context.Context, any) (fsm.Result, error)
	logger   *slog.Logger
	proposed *archiveLog
}

// archive prepares the archive of a job's learner; nil for a job without one.
func (s *Server) archive(ctx context.Context, j *fsm.Job, u *Updater, logger *slog.Logger) (*archiving, error) {
	workerOf := func(session string) (worker string) {
		s.Replica.Read(func(st *fsm.State) {
			if open, ok := st.Session(j.ID, session); ok {
				worker = open.Worker
			}
		})
		return worker
	}
	k, err := NewCollector(u, workerOf, s.Clock)
	if k == nil || err != nil {
		return nil, err
	}
	if s.Archive == nil {
		return nil, fmt.Errorf("mesh.archive is %s, and this node keeps no archive", u.Spec.Mesh.Archive)
	}
	if s.Objects != nil {
		if err := k.Recall(ctx, s.Objects(j)); err != nil {
			logger.Warn("objects may be archived again: what is archived could not be read", "error", err)
		}
	}
	return &archiving{
		Collector: k, lease: Lease{Job: j.ID, Generation: j.Generation, Epoch: j.Epoch}, node: s.Archive,
		state: s.Replica, changed: s.Replica.Changed, propose: s.uplink.apply,
		logger: logger,
	}, nil
}

// updates returns an OnUpdate that collects before next is called.
func (a *archiving) updates(next func(*Update) error) func(*Update) error {
	if a == nil {
		return next
	}
	return func(up *Update) error {
		if err := a.Updated(up); err != nil {
			return err
		}
		return next(up)
	}
}

// log returns a Log whose Commits list what was collected.
func (a *archiving) log(inner Log) Log {
	if a == nil {
		return inner
	}
	a.proposed = &archiveLog{archiving: a, inner: inner}
	return a.proposed
}

// copies is how many nodes a segment must be on; ErrFenced once the lease is over, as
// far as this node knows: nothing waits for copies that no Commit will list.
func (a *archiving) copies() (int, error) {
	if a.fenced() {
		return 0, ErrFenced
	}
	return a.node.Copies(a.u.Spec.Mesh.ArchiveCopies), nil
}

func (a *archiving) fenced() (yes bool) {
	a.state.Read(func(s *fsm.State) {
		j, ok := s.Job(a.lease.Job)
		yes = ok && (j.Generation != a.lease.Generation || j.Epoch != a.lease.Epoch)
	})
	return yes
}

// wait returns once no answer is waited for.
func (a *archiving) wait() {
	if a != nil && a.proposed != nil {
		a.proposed.waiting.Wait()
	}
}
