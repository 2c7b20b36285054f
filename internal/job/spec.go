// Package job defines the job file: what to learn, with which loss, from which
// behaviour, and when to stop.
package job

import (
	"time"

	"github.com/driftmesh/driftmesh/internal/schedule"
)

// Spec is one job. It is written as YAML, decoded strictly, and travels as JSON.
type Spec struct {
	Name string `json:"name" yaml:"name"`
	Seed uint64 `json:"seed" yaml:"seed"`
	Env  Env    `json:"env" yaml:"env"`
	// Reward, when set, replaces the environment's own.
	Reward *Reward `json:"reward,omitempty" yaml:"reward,omitempty"`
	Policy Policy  `json:"policy" yaml:"policy"`
	Loss   Loss    `json:"loss" yaml:"loss"`
	// RewardExponent β trains towards R(x)^β; may be annealed.
	RewardExponent schedule.Value `json:"reward_exponent" yaml:"reward_exponent"`
	Optimiser      Optimiser      `json:"optimiser" yaml:"optimiser"`
	Sampling       Sampling       `json:"sampling" yaml:"sampling"`
	Train          Train          `json:"train" yaml:"train"`
	Eval           Eval           `json:"eval" yaml:"eval"`
	Replay         Replay         `json:"replay" yaml:"replay"`
	// Data, where it is set, is a file of objects that are trained on beside what
	// is sampled.
	Data *Data `json:"data,omitempty" yaml:"data,omitempty"`
	Mesh Mesh  `json:"mesh" yaml:"mesh"`
}

// Env names an environment and its parameters; the environment checks them.
type Env struct {
	Name   string         `json:"name" yaml:"name"`
	Params map[string]any `json:"params" yaml:"params"`
}

// Policy describes the network.
type Policy struct {
	Kind       string `json:"kind" yaml:"kind"`             // mlp | transformer | tabular | normal | gaussian
	Hidden     []int  `json:"hidden" yaml:"hidden"`         // widths of the trunk shared by P_F and P_B
	Activation string `json:"activation" yaml:"activation"` // relu | leaky_relu | tanh | gelu (transformer)
	// Backward is how P_B is learned: joint | frozen | uniform | max_likelihood (f-TB, "Learned backward policy").
	Backward string `json:"backward" yaml:"backward"`
	// Std is the standard deviation of a gaussian: that of the environment's
	// reference process (fixed, the default) or learned.
	Std string `json:"std,omitempty" yaml:"std,omitempty"`
	// Of a transformer, which has no hidden layers: encoder layers, heads of
	// attention in each, width of a token, width of the layer after attention.
	Layers      int `json:"layers,omitempty" yaml:"layers,omitempty"`
	Heads       int `json:"heads,omitempty" yaml:"heads,omitempty"`
	Width       int `json:"width,omitempty" yaml:"width,omitempty"`
	Feedforward int `json:"feedforward,omitempty" yaml:"feedforward,omitempty"`
	// Drift is what a gaussian's network sees: the point and the time (plain, the
	// default), or the gradient of log R there as well (langevin).
	Drift string `json:"drift,omitempty" yaml:"drift,omitempty"`
}

// Loss is a member of the f-TB family with its modifiers and normaliser.
type Loss struct {
	// Divergence is a member as `driftmesh losses list` prints it, with
	// modifiers after commas: "hellinger", "alpha:0.5", "forward_kl,tail:5",
	// "custom:g1=tanh(delta)".
	Divergence string `json:"divergence" yaml:"divergence"`
	// Parameter, Tail and Temper, when set, override the numbers written in
	// Divergence and may be schedules.
	Parameter *schedule.Value `json:"parameter,omitempty" yaml:"parameter,omitempty"`
	Tail      *schedule.Value `json:"tail,omitempty" yaml:"tail,omitempty"`
	Temper    *schedule.Value `json:"temper,omitempty" yaml:"temper,omitempty"`
	// Normaliser: learned | batch_mean | batch_optimal | leave_one_out | running | exact.
	Normaliser string `json:"normaliser" yaml:"normaliser"`
	// RunningDecay is the weight of the past in the running normaliser, in [0, 1).
	RunningDecay float64 `json:"running_decay" yaml:"running_decay"`
	// LogZInit is the first value of a learned log Z.
	LogZInit float64 `json:"log_z_init" yaml:"log_z_init"`
	// Objective is what residuals are made of: tb | subtb | db | fl_db | fm | ml;
	// empty is tb. Lambda, of subtb, weighs a piece of n transitions by lambda^n;
	// 0 is DefaultLambda.
	Objective string  `json:"objective,omitempty" yaml:"objective,omitempty"`
	Lambda    float64 `json:"lambda,omitempty" yaml:"lambda,omitempty"`
	// Prior is the folder of a trained run whose sampler takes the place of P_B, so
	// that the job learns the prior's distribution times R (relative trajectory
	// balance). Whoever trains the job must have that folder.
	Prior string `json:"prior,omitempty" yaml:"prior,omitempty"`
}

// Optimiser is shared by all parameters; log Z and P_B have rates of their own.
type Optimiser struct {
	Kind         string          `json:"kind" yaml:"kind"` // adam | sgd
	LearningRate schedule.Value  `json:"learning_rate" yaml:"learning_rate"`
	LogZRate     schedule.Value  `json:"log_z_rate" yaml:"log_z_rate"`
	BackwardRate *schedule.Value `json:"backward_rate,omitempty" yaml:"backward_rate,omitempty"` // of the P_B head; default: learning_rate
	FlowRate     *schedule.Value `json:"flow_rate,omitempty" yaml:"flow_rate,omitempty"`         // of the flow head; default: learning_rate
	Beta1        float64         `json:"beta1" yaml:"beta1"`
	Beta2        float64         `json:"beta2" yaml:"beta2"`
	Epsilon      float64         `json:"epsilon" yaml:"epsilon"`
	Momentum     float64         `json:"momentum" yaml:"momentum"`
	ClipNorm     float64         `json:"clip_norm" yaml:"clip_norm"` // 0: no clipping
}

// Sampling is the behaviour policy: tempered P_F mixed with uniform actions.
type Sampling struct {
	Epsilon     schedule.Value `json:"epsilon" yaml:"epsilon"`         // probability of a uniform action, per step
	Temperature schedule.Value `json:"temperature" yaml:"temperature"` // logits are divided by it
	// RewardDelayMS is what evaluating the reward takes besides, per trajectory:
	// a stand-in for a simulator or a service that answers after a while.
	RewardDelayMS float64 `json:"reward_delay_ms,omitempty" yaml:"reward_delay_ms,omitempty"`
}

// RewardDelay is RewardDelayMS as a duration.
func (s Sampling) RewardDelay() time.Duration {
	return time.Duration(s.RewardDelayMS * float64(time.Millisecond))
}

// Train is the budget.
type Train struct {
	Batch   int   `json:"batch" yaml:"batch"`     // trajectories per update
	Updates int64 `json:"updates" yaml:"updates"` // optimiser steps until the job is finished
	Lag     int   `json:"lag" yaml:"lag"`         // `train` only: sample with the parameters of that many updates ago
}

// Eval schedules the exact metrics, and says what is estimated besides.
type Eval struct {
	Every     int64 `json:"every" yaml:"every"`           // updates between evaluations; 0: only at the end
	MaxStates int   `json:"max_states" yaml:"max_states"` // exact evaluation up to this many states
	// Samples is how many trajectories of P_F, without exploration, each evaluation
	// estimates from; 0: it estimates nothing.
	Samples int `json:"samples,omitempty" yaml:"samples,omitempty"`
	// TestSet is how many backward trajectories estimate the log-probability of
	// each object of the environment's test set; 0: none is estimated.
	TestSet int `json:"test_set,omitempty" yaml:"test_set,omitempty"`
	// TopK is how many of the best distinct samples are described; 0: none.
	TopK int `json:"top_k,omitempty" yaml:"top_k,omitempty"`
}

// Estimates says whether evaluations estimate from samples at all.
func (e Eval) Estimates() bool { return e.Samples > 0 || e.TestSet > 0 }

// Replay says what an update is made of beside fresh trajectories: terminal
// objects that were trained on before, kept in a bounded buffer, each given a
// new trajectory by sampling backward from it with the present P_B.
type Replay struct {
	Kind  string `json:"kind" yaml:"kind"`   // none | fifo | uniform | reward | mixture | diverse
	Bytes int64  `json:"bytes" yaml:"bytes"` // the buffer's bound, overhead included
	// SamplesPerInsert is the replay ratio, held exactly: of train.batch
	// trajectories an update takes train.batch/SamplesPerInsert fresh ones.
	SamplesPerInsert float64 `json:"samples_per_insert" yaml:"samples_per_insert"`
	RewardExponent   float64 `json:"reward_exponent" yaml:"reward_exponent"` // reward, mixture: P(x) ∝ R(x)^exponent
	Recent           float64 `json:"recent" yaml:"recent"`                   // mixture: share drawn by recency; the rest by reward
	TopK             int     `json:"top_k" yaml:"top_k"`                     // diverse: objects kept
	MinDistance      float64 `json:"min_distance" yaml:"min_distance"`       // diverse: between kept objects, in share of features
}

// Data is a file of objects. A share of each batch is drawn from it, in
// proportion to their weights, and each gets a new trajectory by sampling
// backward from it with the present P_B.
type Data struct {
	File  string  `json:"file" yaml:"file"`   // .csv or .parquet with a column object, and perhaps weight; or .txt, one object a line
	Share float64 `json:"share" yaml:"share"` // of the trajectories of a batch, in (0, 1]
}

// Mesh holds what only a distributed run uses.
type Mesh struct {
	WindowMS      int     `json:"window_ms" yaml:"window_ms"`             // shortest time between commits
	MaxLag        int64   `json:"max_lag" yaml:"max_lag"`                 // in updates; 0: no bound
	MaxLagSeconds float64 `json:"max_lag_seconds" yaml:"max_lag_seconds"` // since that version's commit; 0: no bound
	OnStale       string  `json:"on_stale" yaml:"on_stale"`               // admit | drop | downweight
	Rollout       int     `json:"rollout" yaml:"rollout"`                 // trajectories a slot samples at once
	ReplayMax     int     `json:"replay_max" yaml:"replay_max"`           // trajectories waiting for the learner, at most

	Weight   float64 `json:"weight" yaml:"weight"`     // share of the slots among jobs of equal priority
	Priority int     `json:"priority" yaml:"priority"` // jobs of higher priority take slots first
	// MaxSlots is how many slots work for the job at most; 0: no bound.
	MaxSlots int    `json:"max_slots,omitempty" yaml:"max_slots,omitempty"`
	Publish  string `json:"publish" yaml:"publish"` // float32 | bf16: what workers receive
	// Archive is what is kept of the accepted terminal objects:
	// off | all | distinct | best | sample:p with 0 < p <= 1.
	Archive       string `json:"archive" yaml:"archive"`
	ArchiveCopies int    `json:"archive_copies" yaml:"archive_copies"` // nodes that hold a segment before a mark covers it

	Learner Resources `json:"learner" yaml:"learner"` // what the learner's node must have
}

// Resources of a node, as it probed them itself.
type Resources struct {
	CPUs     int `json:"cpus" yaml:"cpus"`           // cores
	MemoryMB int `json:"memory_mb" yaml:"memory_mb"` // MiB
	GPUs     int `json:"gpus" yaml:"gpus"`
}
