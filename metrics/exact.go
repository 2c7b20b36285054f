package metrics

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/policy"
)

// Report is the exact evaluation of a model on an enumerable environment.
type Report struct {
	Objects   int       `json:"objects"`
	Distances Distances `json:"distances"`
	// Correlation is that of the model's log-probability with the target's.
	Correlation Correlation `json:"correlation"`
	// LogZ is the exact log normaliser of the target, to compare an estimate with.
	LogZ float64 `json:"log_z"`
	// ExpectedReward is E_q[R], of the environment's own reward (whatever the
	// exponent of the target); TargetReward is what a perfect sampler gets.
	ExpectedReward float64 `json:"expected_reward"`
	TargetReward   float64 `json:"target_reward"`
	// Entropy of the model in nats.
	Entropy float64 `json:"entropy"`
	// Modes are the named modes of the target, by number; none when it has none.
	Modes []ModeMass `json:"modes"`
	// ModesHeld counts the modes that the model holds.
	ModesHeld int `json:"modes_held"`
	// Conditions are what the model does under each condition of an
	// envs.Conditional; absent for others.
	Conditions []ConditionReport `json:"conditions,omitempty"`
}

// ModeMass compares the probability of one mode.
type ModeMass struct {
	Target float64 `json:"target"`
	Model  float64 `json:"model"`
}

// Held says whether the model gives the mode at least half of its target mass.
func (m ModeMass) Held() bool { return m.Model >= m.Target/2 }

// MarshalJSON writes null for expected rewards that overflow.
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report // without methods
	return json.Marshal(struct {
		plain
		ExpectedReward *float64 `json:"expected_reward"`
		TargetReward   *float64 `json:"target_reward"`
	}{plain(r), finite(r.ExpectedReward), finite(r.TargetReward)})
}

// Evaluator evaluates models on one target again and again. What does not
// change between evaluations is computed once. It is not safe for concurrent use.
type Evaluator struct {
	env       envs.Enumerable
	logReward []float64 // of every object
	logTarget []float64
	ranks     []float64 // of logTarget; nil until they are needed
	logZ      float64
	members   []member // which object is of which mode
	numModes  int
	given     *conditions   // nil without conditions
	row       envs.States   // one state, to load numbered states into
	chunk     policy.States // what a model reads of some of them
}

// NewEvaluator prepares the exact evaluation of models that should sample in
// proportion to R^exponent. The error wraps envs.ErrNotEnumerable when env is
// too large for it.
func NewEvaluator(env envs.Env, exponent float64) (*Evaluator, error) {
	e, err := envs.Enumerate(env)
	if err != nil {
		return nil, err
	}
	if !(exponent >= 0) || math.IsInf(exponent, 0) {
		return nil, fmt.Errorf("metrics: exponent of the target is %v; want a finite number of at least 0", exponent)
	}
	v := &Evaluator{env: e, logReward: make([]float64, e.NumObjects()), row: e.NewStates(1)}
	e.LogRewards(v.logReward)
	v.logTarget = make([]float64, len(v.logReward))
	for i, lr := range v.logReward {
		v.logTarget[i] = exponent * lr
	}
	v.logZ = envs.Normalise(v.logTarget)
	if m, ok := env.(envs.Moded); ok && m.NumModes() > 0 {
		v.numModes = m.NumModes()
		if v.members, err = modesOfObjects(e, m); err != nil {
			return nil, err
		}
	}
	if c, ok := env.(envs.Conditional); ok {
		if v.given, err = newConditions(e, c); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// LogTarget returns log(R^exponent/Z) of every object. It must not be changed.
func (v *Evaluator) LogTarget() []float64 { return v.logTarget }

// LogZ returns the exact log normaliser of the target.
func (v *Evaluator) LogZ() float64 { return v.logZ }

// Model evaluates the forward policy of a model.
func (v *Evaluator) Model(tape policy.Tape, params []float32) (*Report, error) {
	logModel, err := v.Distribution(tape, params)
	if err != nil {
		return nil, err
	}
	return v.Report(logModel)
}

// Distribution returns the log-probability of every object under a model.
func (v *Evaluator) Distribution(tape policy.Tape, params []float32) ([]float64, error) {
	spec := v.env.Spec()
	return envs.Terminating(v.env, func(first int, out []float32) error {
		v.chunk.Reset()
		for i := range len(out) / spec.Actions {
			v.env.Load(v.row, 0, first+i)
			v.chunk.Append(&spec, v.row, 0)
		}
		return tape.LogProbs(params, &v.chunk, policy.Forward, out)
	})
}

// Report compares a distribution over the objects (log-probabilities, len
// NumObjects) with the target.
func (v *Evaluator) Report(logModel []float64) (*Report, error) {
	d, err := Compare(v.logTarget, logModel)
	if err != nil {
		return nil, err
	}
	r := &Report{Objects: len(logModel), Distances: d, LogZ: v.logZ, Modes: make([]ModeMass, v.numModes)}
	if v.ranks == nil {
		v.ranks = Ranks(v.logReward) // the order of the target, whose rounding may split or make ties
	}
	if r.Correlation, err = follow(logModel, v.logTarget, v.ranks); err != nil {
		return nil, err
	}
	for i, lq := range logModel {
		q := math.Exp(lq)
		r.ExpectedReward += math.Exp(lq + v.logReward[i])
		r.TargetReward += math.Exp(v.logTarget[i] + v.logReward[i])
		if q > 0 {
			r.Entropy -= q * lq
		}
	}
	for _, in := range v.members {
		m := &r.Modes[in.mode]
		m.Target += math.Exp(v.logTarget[in.object])
		m.Model += math.Exp(logModel[in.object])
	}
	for _, m := range r.Modes {
		if m.Held() {
			r.ModesHeld++
		}
	}
	if v.given != nil {
		r.Conditions = v.given.report(v.logTarget, logModel)
	}
	return r, nil
}

// Evaluate compares a model with the target R(x)/Z of env, once. Use an
// Evaluator to do so repeatedly.
func Evaluate(env envs.Env, tape policy.Tape, params []float32) (*Report, error) {
	v, err := NewEvaluator(env, 1)
	if err != nil {
		return nil, err
	}
	return v.Model(tape, params)
}

// Exact is Evaluate for a policy given as a function.
func Exact(env envs.Env, logPF envs.LogPolicy) (*Report, error) {
	v, err := NewEvaluator(env, 1)
	if err != nil {
		return nil, err
	}
	logModel, err := envs.Terminating(v.env, logPF)
	if err != nil {
		return nil, err
	}
	return v.Report(logModel)
}

// member says that an object is of a mode. Modes may share objects.
type member struct{ object, mode int32 }

// modesOfObjects lists which object is of which mode.
func modesOfObjects(e envs.Enumerable, m envs.Moded) (out []member, err error) {
	var modes []int
	err = envs.EachObject(e, func(s envs.States, object int) {
		modes = envs.AppendModes(modes[:0], m, s, 0)
		for _, mode := range modes {
			out = append(out, member{int32(object), int32(mode)})
		}
	})
	return out, err
}
