package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/journal"
)

// Observer watches a Rig from outside: every server's answers go into a Ledger
// and every node's journal into an Account, until Close.
type Observer struct {
	rig    *Rig
	job    string
	Ledger *Ledger

	cancel context.CancelFunc
	loops  sync.WaitGroup

	mu      sync.Mutex
	account *Account
	read    map[string]int64 // bytes of each journal
	err     error
}

// tailEvery is how often journals are looked at: often enough to see a commit
// while it is under way.
const tailEvery = 2 * time.Millisecond

// Observe starts to watch a job that is about to be submitted, asking every replica
// so often; 0: every lookEvery. What journals hold already is passed over.
func Observe(r *Rig, job string, every time.Duration) *Observer {
	every = cmp.Or(every, lookEvery)
	ctx, cancel := context.WithCancel(context.Background())
	o := &Observer{rig: r, job: job, Ledger: NewLedger(), cancel: cancel, account: NewAccount(), read: map[string]int64{}}
	for _, n := range r.everyone() {
		if info, err := os.Stat(n.Journal); err == nil {
			o.read[n.Name] = info.Size()
		}
	}
	o.loops.Go(func() {
		for clock.Rest(ctx, every) == nil {
			var round sync.WaitGroup
			for _, n := range r.Nodes(cluster.RoleServer, roleLearner) {
				if n.Running() && !n.Frozen() {
					round.Go(func() {
						if reply, err := r.Status(ctx, n, job); err == nil {
							o.Ledger.See(n.Name, reply, job)
						}
					})
				}
			}
			round.Wait()
		}
	})
	o.loops.Go(func() {
		for clock.Rest(ctx, tailEvery) == nil {
			o.Sync()
		}
	})
	return o
}

// Close ends the watch and returns what went wrong with reading journals.
func (o *Observer) Close() error {
	o.cancel()
	o.loops.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Sync reads every journal to its present end.
func (o *Observer) Sync() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.rig.everyone() {
		if err := o.tail(n); err != nil && o.err == nil {
			o.err = fmt.Errorf("journal of %s: %w", n.Name, err)
		}
	}
}

func (o *Observer) tail(n *Node) error {
	at := o.read[n.Name]
	info, err := os.Stat(n.Journal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() == at {
		return err
	}
	f, err := os.Open(n.Journal)
	if err != nil {
		return err
	}
	defer f.Close()
	entries, size, err := journal.Read(io.NewSectionReader(f, at, info.Size()-at))
	for _, e := range entries {
		if e.Job == o.job || e.Kind == journal.Started {
			o.account.Take(n.Name, e)
		}
	}
	o.read[n.Name] = at + size
	return err
}

// Account calls f with what the journals say so far.
func (o *Observer) Account(f func(*Account)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(o.account)
}

// Aim waits until a commit and an unacknowledged trajectory are under way.
func (o *Observer) Aim(ctx context.Context) error {
	for {
		hit := false
		o.Account(func(a *Account) {
			now := time.Now().UnixNano()
			if n := len(a.proposals); n == 0 || a.proposals[n-1].answer != 0 || now-a.proposals[n-1].sent > int64(20*time.Millisecond) {
				return
			}
			_, hit = a.Overlap(now, now)
		})
		if hit {
			return nil
		}
		if err := clock.Rest(ctx, tailEvery/4); err != nil {
			return fmt.Errorf("no commit was seen under way: %w", err)
		}
	}
}

// Progress waits for n commits that are proposed from now on, as their learners
// tell: a replica that catches up shows versions, too, that are new to a Ledger.
func (o *Observer) Progress(ctx context.Context, n int) error {
	from := time.Now().UnixNano()
	for {
		done := 0
		o.Account(func(a *Account) { done = a.Commits(from) })
		if done >= n {
			return nil
		}
		if err := clock.Rest(ctx, lookEvery); err != nil {
			return fmt.Errorf("%w: %d of %d commits more: %w", ErrStuck, done, n, err)
		}
	}
}

// ErrStuck: the mesh did not go on by itself once its faults had healed.
var ErrStuck = errors.New("no progress after healing")
