package paramserver

import (
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/metrics"
)

// Recorder gathers updates into one metrics row per stretch. It holds learning
// metrics only, so that equal seeds give equal rows.
type Recorder struct {
	spec *job.Spec

	updates  int
	loss     float64
	grad     float64
	c        float64
	tail     float64
	ess      float64
	kl       float64
	weighed  int       // updates that had behaviour log-probabilities
	logR     []float64 // of the stretch, for the importance-sampled log Z
	logPB    []float64
	logQ     []float64
	deltas   []float64
	lags     runs.LagHistogram
	refused  uint64
	bestLogR float64
	row      runs.Row
}

// NewRecorder starts an empty stretch.
func NewRecorder(spec *job.Spec) *Recorder {
	return &Recorder{spec: spec, bestLogR: math.Inf(-1)}
}

// Add counts one update.
func (r *Recorder) Add(u *Update) {
	o := u.Loss
	r.updates++
	r.loss += o.Loss
	r.grad += u.GradNorm
	r.c += mean(o.C)
	r.tail += o.Diagnostics.TailShare
	if o.Diagnostics.Known > 0 {
		r.weighed++
		r.ess += o.Diagnostics.ESS / float64(o.Diagnostics.Known)
		r.kl += o.Diagnostics.KL
	}
	r.deltas = append(r.deltas, o.Delta...)
	r.logR = append(r.logR, u.In.LogReward...)
	r.logPB = append(r.logPB, u.In.LogPB...)
	r.logQ = append(r.logQ, u.In.LogBehaviour...)
	r.refused += uint64(u.Refused)
	for i := range u.Batch {
		r.lags.Add(int64(u.Version)-1-int64(u.Batch[i].Version), 1)
		r.bestLogR = max(r.bestLogR, u.Batch[i].LogReward)
	}
	r.row = runs.Row{
		Version: int64(u.Version), Trajectories: u.Trajectories,
		LearningRate: runs.Float(u.LearningRate), LogZRate: runs.Float(u.LogZRate),
		LogZ: runs.Float(u.LogZ), LogZEstimator: "learned",
	}
}

// Empty says whether the stretch has no update yet.
func (r *Recorder) Empty() bool { return r.updates == 0 }

// Row returns the row of the stretch and begins the next one.
func (r *Recorder) Row(u *Updater) runs.Row {
	row, n := r.row, float64(max(1, r.updates))
	row.Loss, row.GradNorm = runs.Float(r.loss/n), runs.Float(r.grad/n)
	row.C, row.TailShare = runs.Float(r.c/n), runs.Float(r.tail/n)
	if r.weighed > 0 {
		row.ESS = runs.Some(r.ess / float64(r.weighed))
		row.BehaviourKL = runs.Some(r.kl / float64(r.weighed))
	}
	slices.Sort(r.deltas)
	for i, p := range runs.DeltaLevels {
		row.DeltaQ[i] = runs.Float(quantile(r.deltas, p))
	}
	if is, err := losses.ImportanceLogZ(r.logR, r.logPB, r.logQ); err == nil {
		row.LogZIS, row.LogZISError = runs.Some(is.Value), runs.Some(is.StdErr)
		if r.spec.Loss.Normaliser != string(losses.Learned) {
			row.LogZ, row.LogZEstimator = runs.Float(is.Value), is.Estimator
		}
	}
	row.Lag = runs.LagStats{Min: r.lags.Quantile(0), Median: r.lags.Quantile(0.5), P95: r.lags.Quantile(0.95), Max: r.lags.Quantile(1)}
	row.LagCounts = r.lags.Clone()
	row.Refused = r.refused
	if !math.IsInf(r.bestLogR, -1) {
		row.BestLogReward = runs.Some(r.bestLogR)
	}
	if found, total := u.ModesFound(); total > 0 {
		row.ModesFound, row.ModesTotal = &found, &total
	}
	at := row.Version
	row.Epsilon = runs.Float(r.spec.Sampling.Epsilon.At(at))
	row.Temperature = runs.Float(r.spec.Sampling.Temperature.At(at))
	row.RewardExponent = runs.Float(r.spec.RewardExponent.At(at))
	if a, ok := u.Divergence().EffectiveAlpha(); ok {
		row.EffectiveAlpha = runs.Some(a)
	}
	best := r.bestLogR
	*r = Recorder{spec: r.spec, deltas: r.deltas[:0], logR: r.logR[:0], logPB: r.logPB[:0], logQ: r.logQ[:0], bestLogR: best}
	return row
}

// AddExact adds the exact metrics of a version to its row.
func AddExact(row *runs.Row, rep *metrics.Report) {
	d := rep.Distances
	row.TV, row.KL, row.KLReverse = runs.Some(d.TV), runs.Some(d.ForwardKL), runs.Some(d.ReverseKL)
	row.JS, row.L1 = runs.Some(d.JSD), runs.Some(d.L1/float64(rep.Objects))
	row.LogZExact = runs.Some(rep.LogZ)
	if len(rep.Modes) > 0 {
		held := rep.ModesHeld
		row.ModesHeld = &held
	}
}

func mean(x []float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	return sum(x) / float64(len(x))
}

// quantile of sorted values, linearly interpolated; NaN of none.
func quantile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := p * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
