package runs

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
)

// Row is one line of metrics.jsonl: what one stretch of learning looked like.
// It holds learning metrics only, nothing measured with a clock, so that equal
// seeds give bit-identical files; wall-clock facts are in Timing.
//
// A stretch reaches from the previous row (exclusive) to Version (inclusive).
// Logarithms are natural. An optional field is nil, and absent from the JSON,
// where the quantity was not evaluated; a number that is not finite is null.
type Row struct {
	// Version is the number of optimiser steps since the job began.
	Version int64 `json:"version"`
	// Generation is incremented by every restore of a job; 0 in a local run.
	Generation uint64 `json:"generation,omitempty"`
	// Trajectories counts those trained on since the job began, replayed ones not
	// counted.
	Trajectories uint64 `json:"trajectories"`

	// Loss is the mean of g(δ) over the trajectories of the stretch.
	Loss Float `json:"loss"`
	// GradNorm is the mean Euclidean norm of the gradient before clipping.
	GradNorm Float `json:"grad_norm"`
	// DeltaQ are quantiles of the residual δ (normaliser included) at the
	// levels of DeltaLevels: exact for up to 65,536 trajectories, of a uniform
	// sample of that size for more.
	DeltaQ [5]Float `json:"delta_q"`
	// C is the normaliser that was added to δ: log Z when it is learned,
	// otherwise the mean fitted c over the groups of the stretch.
	C Float `json:"c"`
	// TailShare is the part of Σ|w|, in [0, 1], that lies at or beyond the point
	// where the weights w stop growing with |δ|: that of a tail modifier, or of
	// Huber; the mean over updates, 0 without such a point.
	TailShare Float `json:"tail_share"`

	// LogZ is the best available estimate of log Z without enumeration, in
	// nats; LogZEstimator names it: the learned scalar where there is one, else
	// importance, else elbo. With none of them it is not finite and unnamed.
	LogZ          Float  `json:"log_z"`
	LogZEstimator string `json:"log_z_estimator,omitempty"`
	// LogZExact is log Σ R(x) by enumeration.
	LogZExact *Float `json:"log_z_exact,omitempty"`
	// ELBO is −mean δ without the normaliser: in expectation a lower bound of
	// log Z. Only a stretch whose trajectories were all sampled from P_F as it
	// was when it trained on them, without exploration, has one.
	ELBO *Float `json:"elbo,omitempty"`
	// LogZIS is log mean(R·P_B / P_behaviour) over the trajectories of the
	// stretch, LogZISError its standard error.
	LogZIS      *Float `json:"log_z_is,omitempty"`
	LogZISError *Float `json:"log_z_is_error,omitempty"`

	// TV is the total variation ½ Σ |p − q| in [0, 1] between the target p and
	// the model's distribution q over objects; exact, by enumeration.
	TV *Float `json:"tv,omitempty"`
	// KL is D(p‖q), KLReverse is D(q‖p), in nats; exact, by enumeration.
	KL        *Float `json:"kl,omitempty"`
	KLReverse *Float `json:"kl_reverse,omitempty"`
	// JS is the Jensen–Shannon divergence in [0, log 2]; exact.
	JS *Float `json:"js,omitempty"`
	// L1 is the mean of |p − q| over objects: 2 TV / number of objects.
	L1 *Float `json:"l1,omitempty"`
	// Hellinger is √(½ Σ(√p − √q)²) in [0, 1], Chi2 is χ²(p‖q) = Σ(p−q)²/q and
	// Chi2Reverse χ²(q‖p) = Σ(p−q)²/p; exact, by enumeration.
	Hellinger   *Float `json:"hellinger,omitempty"`
	Chi2        *Float `json:"chi2,omitempty"`
	Chi2Reverse *Float `json:"chi2_reverse,omitempty"`
	// ExactPearson and ExactSpearman correlate log-probability with log-reward over all
	// objects, by enumeration; null where that is not defined. Those of a test set are
	// TestPearson and TestSpearman.
	ExactPearson  *Float `json:"exact_pearson,omitempty"`
	ExactSpearman *Float `json:"exact_spearman,omitempty"`
	Estimates
	// ModesFound counts the modes that training trajectories have hit since the
	// job began, ModesHeld those on which the model now has at least half of the
	// target's mass, ModesTotal those that exist.
	ModesFound *int `json:"modes_found,omitempty"`
	ModesHeld  *int `json:"modes_held,omitempty"`
	ModesTotal *int `json:"modes_total,omitempty"`
	// BestLogReward is the largest log-reward trained on since the job began.
	BestLogReward *Float `json:"best_log_reward,omitempty"`

	// Lag summarises the age of the trajectories of the stretch, in updates:
	// version trained minus version sampled with.
	Lag LagStats `json:"lag"`
	// LagCounts is the histogram of the same ages; histograms of several rows
	// can be merged.
	LagCounts LagHistogram `json:"lag_counts"`
	// ESS is the effective sample size (Σρ)²/Σρ² of the ratios
	// ρ = π_now/π_behaviour of whole trajectories, divided by their number: in
	// (0, 1], 1 on-policy.
	ESS *Float `json:"ess,omitempty"`
	// BehaviourKL estimates D(behaviour‖now) as mean −log ρ, in nats.
	BehaviourKL *Float `json:"behaviour_kl,omitempty"`
	// Stale and Refused count trajectories that were not trained on, since the
	// previous row: dropped as too old, and malformed or not finite. In a mesh
	// they are what the commits of the stretch say of the sessions.
	Stale   uint64 `json:"stale"`
	Refused uint64 `json:"refused"`
	// Downweighted counts stale ones that were trained on with a weight below 1;
	// Replayed those that were not fresh: new trajectories of stored objects, or of
	// objects of a data file. The
	// lags of the row are of fresh ones only.
	Downweighted uint64 `json:"downweighted,omitempty"`
	Replayed     uint64 `json:"replayed,omitempty"`
	// BiasShift and BiasTV say what dropping and downweighting did to the data
	// since the job began: the shift of the mean log-reward in nats, and the total
	// variation between bins of log-reward, trained on against all. Absent where
	// nothing is dropped or downweighted; BiasFile has the rest.
	BiasShift *Float `json:"bias_shift,omitempty"`
	BiasTV    *Float `json:"bias_tv,omitempty"`

	// Values in force at Version of everything that a schedule may anneal.
	LearningRate   Float `json:"learning_rate"`
	LogZRate       Float `json:"log_z_rate"`
	Epsilon        Float `json:"epsilon"`         // share of uniform actions, per step
	Temperature    Float `json:"temperature"`     // divides the logits of the behaviour
	RewardExponent Float `json:"reward_exponent"` // β in R^β
	// EffectiveAlpha is the member of the alpha family (in the convention a = 0
	// forward KL, a = 1 reverse KL) that the loss amounts to with its tempering;
	// nil for members outside it.
	EffectiveAlpha *Float `json:"effective_alpha,omitempty"`
	// Tail and Temper are the k and the β of the loss's modifiers; nil when not
	// in use.
	Tail   *Float `json:"tail,omitempty"`
	Temper *Float `json:"temper,omitempty"`
}

// DeltaLevels are the levels of the quantiles in Row.DeltaQ.
var DeltaLevels = [5]float64{0.05, 0.25, 0.5, 0.75, 0.95}

// LagStats summarises ages in updates. All are zero for an empty stretch.
type LagStats struct {
	Min    int64 `json:"min"`
	Median int64 `json:"median"`
	P95    int64 `json:"p95"`
	Max    int64 `json:"max"`
}

// Timing is one line of timings.jsonl: what the stretch that ends at Version
// cost on this machine. Rows and timings with equal Version belong together.
type Timing struct {
	Version int64 `json:"version"`
	// Seconds is the wall-clock time spent on the job since it began,
	// evaluations left out and summed over restarts; EvalSeconds is what the
	// evaluations took.
	Seconds     Float `json:"seconds"`
	EvalSeconds Float `json:"eval_seconds"`
	// Rates over the stretch, evaluation time left out.
	UpdatesPerS      Float `json:"updates_per_s"`
	TrajectoriesPerS Float `json:"trajectories_per_s"`
	// LagSeconds is the age of the stretch's trajectories: seconds from the
	// commit of the version they were sampled with to their use.
	LagSeconds SecondsStats `json:"lag_seconds"`
	// Workers and Servers are the nodes alive at the end of the stretch.
	Workers int `json:"workers"`
	Servers int `json:"servers"`
}

// SecondsStats summarises durations in seconds.
type SecondsStats struct {
	Min    Float `json:"min"`
	Median Float `json:"median"`
	P95    Float `json:"p95"`
	Max    Float `json:"max"`
}

// Float is a float64 that JSON can hold: NaN and infinities are written as
// null, and null is read as NaN. Finite values survive a round trip exactly.
type Float float64

// Some returns a pointer to x, for the optional fields of a Row.
func Some(x float64) *Float {
	f := Float(x)
	return &f
}

// Known returns the value of an optional field, and whether there is a finite one.
func Known(f *Float) (float64, bool) {
	if f == nil || math.IsNaN(float64(*f)) || math.IsInf(float64(*f), 0) {
		return math.NaN(), false
	}
	return float64(*f), true
}

// MarshalJSON writes the shortest decimal that reads back as the same float64.
func (f Float) MarshalJSON() ([]byte, error) {
	x := float64(f)
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, x, 'g', -1, 64), nil
}

// UnmarshalJSON reads a number or null.
func (f *Float) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*f = Float(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(f))
}
