package chaos

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// controlOp is one operation on a job, as a client or a learner saw it.
type controlOp struct {
	verb    string // pause | resume | stop | read | commit
	version uint64 // of a commit
}

// controlResult is its answer.
type controlResult struct {
	unknown bool   // it may have taken effect, now or later, or not at all
	status  string // of a read
	version uint64 // of a read
}

// controlled is the state of a job that the model knows.
type controlled struct {
	status  string
	version uint64
}

// controlModel says what job control and reads of the latest version promise:
// every operation takes effect at one moment between call and answer.
var controlModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{controlled{status: string(fsm.Running)}} },
	Step: func(state, input, output any) []any {
		s, op, result := state.(controlled), input.(controlOp), output.(controlResult)
		next := s
		switch op.verb {
		case wire.VerbPause:
			next.status = string(fsm.Paused)
		case wire.VerbStop:
			next.status = string(fsm.Stopped)
		case wire.VerbResume:
			next.status = string(fsm.Running)
		case verbCommit:
			first := op.version == 0 && s.version == 0 // the initial parameters
			switch {
			case op.version > s.version:
				next.version = op.version
			case !result.unknown && !first:
				return nil
			}
		case verbRead:
			if !result.unknown && (result.status != s.status || result.version != s.version) {
				return nil
			}
		}
		if result.unknown && next != s {
			return []any{s, next}
		}
		return []any{next}
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v → %+v", input, output)
	},
}).ToModel()

const (
	verbRead   = "read"
	verbCommit = "commit"
)

// linearTimeout bounds the check of one history: beyond it the verdict is unknown.
const linearTimeout = 20 * time.Second

// CheckControl decides whether a history of one job could have happened with
// every operation at one moment.
//
// Of one that could not have, a picture goes to the HTML file at path.
func CheckControl(history []porcupine.Operation, path string) (string, error) {
	result, info := porcupine.CheckOperationsVerbose(controlModel, history, linearTimeout)
	switch result {
	case porcupine.Ok:
		return Valid, nil
	case porcupine.Illegal:
		return Invalid, errors.Join(fmt.Errorf("%w: %d operations, see %s", ErrNotLinearizable, len(history), path), porcupine.VisualizePath(controlModel, info, path))
	}
	return Unknown, nil
}

// ErrNotLinearizable: answers contradict each other.
var ErrNotLinearizable = errors.New("job control is not linearizable")

// controllers is how many clients act at once.
const controllers = 3

// linearizing submits a job of its own and lets clients pause, resume, stop and
// read it through every server, while faults strike, until the function that it
// returns is called: that one checks the history.
func (t *torture) linearizing(ctx context.Context, name string, seed uint64) (func(context.Context) (string, error), error) {
	spec := *t.Spec
	spec.Name = name
	data, err := spec.JSON()
	if err != nil {
		return nil, err
	}
	commits := Observe(t.rig, name, 0) // for what learners' journals say of this job
	if err := t.within(ctx, t.Recovery, func(ctx context.Context) error { return t.rig.Submit(ctx, data) }); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: submit: %w", ErrStuck, err), commits.Close())
	}
	running, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	var mu sync.Mutex
	var history []porcupine.Operation
	add := func(op porcupine.Operation) {
		mu.Lock()
		defer mu.Unlock()
		history = append(history, op)
	}
	for c := range controllers {
		clients.Go(func() { t.client(running, c, name, seed, add) })
	}
	return func(ctx context.Context) (string, error) {
		stop()
		clients.Wait()
		// The job ends for good, after everything that may still take effect.
		err := t.within(ctx, t.Recovery, func(ctx context.Context) error { return t.rig.Control(ctx, name, wire.VerbStop) })
		if err != nil {
			err = fmt.Errorf("%w: stop %s: %w", ErrStuck, name, err)
		}
		commits.Sync()
		if cerr := commits.Close(); cerr != nil || err != nil {
			return Unknown, errors.Join(err, cerr)
		}
		commits.Account(func(a *Account) { history = append(history, commitOps(a)...) })
		return CheckControl(history, filepath.Join(t.Dir, name+".html"))
	}, nil
}

// commitOps are the commits of a job as its learners saw them.
func commitOps(a *Account) (ops []porcupine.Operation) {
	for i, p := range a.proposals {
		op := porcupine.Operation{ClientId: controllers + i, Input: controlOp{verb: verbCommit, version: p.version}, Call: p.sent, Output: controlResult{}, Return: p.answer}
		if !p.committed {
			op.Output, op.Return = controlResult{unknown: true}, forever
		}
		ops = append(ops, op)
	}
	return ops
}

// forever is later than any answer.
const forever = int64(1) << 62

// client acts on a job until ctx ends.
func (t *torture) client(ctx context.Context, number int, name string, seed uint64, add func(porcupine.Operation)) {
	random := rng.New(seed, rng.Fault, uint64(number), 7)
	id := number
	for ctx.Err() == nil {
		op := controlOp{verb: verbRead}
		if random.IntN(3) == 0 {
			op.verb = []string{wire.VerbPause, wire.VerbResume, wire.VerbResume, wire.VerbStop}[random.IntN(4)]
		}
		servers := t.rig.Nodes(cluster.RoleServer)
		call := time.Now().UnixNano()
		result, definite := t.act(ctx, servers[random.IntN(len(servers))], name, op)
		back := time.Now().UnixNano()
		switch {
		case definite:
			add(porcupine.Operation{ClientId: id, Input: op, Call: call, Output: result, Return: back})
		case op.verb != verbRead:
			add(porcupine.Operation{ClientId: id, Input: op, Call: call, Output: controlResult{unknown: true}, Return: forever})
			id += 1000 // that operation never ends: the client goes on under another number
		}
		if clock.Rest(ctx, time.Duration(20+random.IntN(80))*time.Millisecond) != nil {
			return
		}
	}
}

// act carries out one operation; definite says that it certainly took effect
// before it was answered.
func (t *torture) act(ctx context.Context, n *Node, name string, op controlOp) (result controlResult, definite bool) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if op.verb != verbRead {
		_, err := cluster.Call(ctx, t.rig.leader, (*cluster.Client).Control, &wire.ControlRequest{ClusterID: t.rig.clusterID, Job: name, Verb: op.verb})
		return controlResult{}, err == nil
	}
	c, err := t.rig.leader.Client(n.GRPC)
	if err != nil {
		return controlResult{}, false
	}
	reply, err := c.Status(ctx, &wire.StatusRequest{ClusterID: t.rig.clusterID, Job: name, Linearizable: true})
	if err != nil || len(reply.Jobs) != 1 {
		return controlResult{}, false
	}
	j := reply.Jobs[0]
	return controlResult{status: j.Status, version: j.Version}, true
}
