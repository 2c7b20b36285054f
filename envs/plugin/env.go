package plugin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/plugin"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Name is what the registry calls environments in plugins.
const Name = "plugin"

// Caps of what a plugin may claim.
const (
	maxActions  = 1 << 16
	maxFeatures = 1 << 20
)

// Config is an environment in a plugin.
type Config struct {
	Command   []string
	Params    map[string]any
	Processes int
	TimeoutMS int
	Batch     int
	Retries   int
}

// Bind names the fields of c as parameters; 0 stands for the defaults of job.Reward.
func Bind(c *Config) []params.Binding {
	return []params.Binding{
		params.Texts("command", &c.Command, "program and arguments, such as [python3, env.py]"),
		params.Map("params", &c.Params, "handed to the program when it starts"),
		params.Int("processes", &c.Processes, "most processes of it in one process of driftmesh; 0 for one"),
		params.Int("timeout_ms", &c.TimeoutMS, "until a request without an answer is asked again of a new process; 0 for 10 s"),
		params.Int("batch", &c.Batch, "most states of one request; 0 for 512"),
		params.Int("retries", &c.Retries, "how often a request is asked again when its process died or hung; 0 for 3, -1 for never"),
	}
}

// Env is an environment in another program. Forward action a is taken back by
// backward action a, and a last action, the stop, by envs.Only.
//
// The program keeps nothing: states travel as bytes of its own making, equal ones
// for equal nodes of the graph. So any process of the pool can go on from any
// state, and one that dies has lost nothing. States of this package remember what
// they were told, so a step that was taken before costs no request.
type Env struct {
	pool  *plugin.Pool
	spec  envs.Spec
	stop  bool
	first *plugin.Reply // s0

	trials atomic.Int64 // new states that are still asked for a parent; see states.try
}

// New starts the program to ask what it is. Faults are *fielderr.Error.
func New(c Config) (envs.Env, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	job := c.job()
	pool, err := plugin.Open(job)
	if err != nil {
		return nil, err
	}
	hello, err := pool.Hello(context.Background())
	if err != nil {
		return nil, err
	}
	if hello.Kind != plugin.KindEnv {
		return nil, fielderr.New("command", pool.String(), fmt.Sprintf("a program that serves an environment; it serves the reward %s", hello.Name))
	}
	e := &Env{pool: pool, stop: hello.Spec.Stop, first: hello}
	if e.spec, err = specOf(hello); err != nil {
		return nil, fmt.Errorf("plugin %s: %w", pool, err)
	}
	if _, err := e.nodes(hello, 1); err != nil {
		return nil, e.broken(fmt.Errorf("the first state: %w", err))
	}
	e.trials.Store(maxTrials)
	return e, nil
}

func (c *Config) job() plugin.Command {
	r := reward(c)
	return plugin.Command{Args: r.Command, Params: r.Params, Processes: r.Processes, Timeout: r.Timeout(), Batch: r.Batch, Retries: r.Retries}
}

func specOf(hello *plugin.Reply) (envs.Spec, error) {
	s := hello.Spec
	out := envs.Spec{
		Name: Name, Actions: s.Actions, BackwardActions: s.Actions, Features: s.Features, MaxActive: s.Features,
		MaxSteps: s.MaxSteps, Positions: s.Positions, Vocabulary: s.Vocabulary,
	}
	if s.Stop {
		out.Actions++
	}
	var faults []error
	within := func(field string, v, lo, hi int) {
		if v < lo || v > hi {
			faults = append(faults, fielderr.New(field, v, fmt.Sprintf("%d to %d", lo, hi)))
		}
	}
	within("actions", s.Actions, 1, maxActions)
	within("features", s.Features, 1, maxFeatures)
	within("max_steps", s.MaxSteps, 1, wire.MaxActions)
	within("positions", s.Positions, 0, maxFeatures)
	within("vocabulary", s.Vocabulary, 0, maxFeatures/max(1, s.Positions))
	if len(faults) == 0 && s.Positions*s.Vocabulary > s.Features {
		faults = append(faults, fielderr.New("features", s.Features, fmt.Sprintf("at least positions × vocabulary, %d", s.Positions*s.Vocabulary)))
	}
	return out, errors.Join(faults...)
}

// Spec implements envs.Env.
func (e *Env) Spec() envs.Spec { return e.spec }

// Programs implements envs.Programmed.
func (e *Env) Programs(context.Context) (map[string]string, error) {
	return told(nil, "env.params.command", e.first), nil
}

// told adds what a program says of itself.
func told(programs map[string]string, field string, hello *plugin.Reply) map[string]string {
	if hello.Data == "" {
		return programs
	}
	if programs == nil {
		programs = map[string]string{}
	}
	programs[field] = hello.Data
	return programs
}

// NewStates implements envs.Env.
func (e *Env) NewStates(n int) envs.States {
	first, err := e.nodes(e.first, 1)
	if err != nil {
		panic(err) // New has looked at it
	}
	s := &states{env: e, ctx: context.Background(), first: first[0], limit: maxKnown, rows: make([]*node, n)}
	s.forget()
	for i := range s.rows {
		s.rows[i] = s.first
	}
	return s
}

// node is a state as the plugin described it.
type node struct {
	state    []byte
	text     string
	forward  []bool
	backward []bool
	active   []int32
	terminal bool
	logR     float64
	rewarded bool    // logR is known
	next     []*node // by forward action; nil: not known yet
	prev     []*node // by backward action, then by the stop
	depth    int     // steps of some way from s0; the longest known
	tried    bool    // one of its parents was asked for
}

// name is the node in messages.
func (x *node) name() string { return plugin.Plain(x.text) }

// nodes reads n states of a reply and checks that they can be states.
func (e *Env) nodes(r *plugin.Reply, n int) ([]*node, error) {
	a, b := e.spec.Actions, e.spec.BackwardActions
	c := &r.Nodes
	for _, column := range []struct {
		name      string
		got, want int
	}{
		{"states", len(c.States), n}, {"texts", len(c.Texts), n}, {"terminal", len(c.Terminal), n},
		{"forward", len(c.Forward), n * a}, {"backward", len(c.Backward), n * b}, {"offsets", len(c.Offsets), 4 * (n + 1)},
		{"active", len(c.Active) % 4, 0},
	} {
		if column.got != column.want {
			return nil, fmt.Errorf("%d bytes or items of %q for %d states; want %d", column.got, column.name, n, column.want)
		}
	}
	active := make([]int32, len(c.Active)/4)
	for i := range active {
		active[i] = int32(binary.LittleEndian.Uint32(c.Active[4*i:]))
	}
	out := make([]*node, n)
	for i := range out {
		lo, hi := binary.LittleEndian.Uint32(c.Offsets[4*i:]), binary.LittleEndian.Uint32(c.Offsets[4*i+4:])
		if lo > hi || int(hi) > len(active) {
			return nil, fmt.Errorf("offsets %d to %d of %d active features", lo, hi, len(active))
		}
		x := &node{
			state: c.States[i], text: c.Texts[i], terminal: c.Terminal[i] != 0, active: active[lo:hi:hi],
			forward: bools(c.Forward[i*a : (i+1)*a]), backward: bools(c.Backward[i*b : (i+1)*b]),
		}
		if err := e.check(x); err != nil {
			return nil, fmt.Errorf("%s: %w", x.name(), err)
		}
		out[i] = x
	}
	return out, nil
}

func bools(column []byte) []bool {
	out := make([]bool, len(column))
	for i, v := range column {
		out[i] = v != 0
	}
	return out
}

// check says what cannot be of a state.
func (e *Env) check(x *node) error {
	for i, f := range x.active {
		if f < 0 || int(f) >= e.spec.Features || i > 0 && f <= x.active[i-1] {
			return fmt.Errorf("active features %s; want numbers from 0 to %d, ascending", plugin.Plain(fmt.Sprint(x.active)), e.spec.Features-1)
		}
	}
	legal := 0
	for _, ok := range x.forward {
		if ok {
			legal++
		}
	}
	switch {
	case len(x.state) == 0:
		return errors.New("the state has no bytes")
	case x.terminal && legal > 0:
		return errors.New("a finished object has actions")
	case !x.terminal && legal == 0:
		return errors.New("no action is legal, and it is no finished object")
	}
	return nil
}
