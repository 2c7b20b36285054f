package paramserver

import (
	"math"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/metrics"
)

// Recorder gathers updates into one metrics row per stretch, in memory that
// does not grow with the stretch. It holds learning metrics only, so that equal
// seeds give equal rows.
type Recorder struct {
	spec *job.Spec
	stretch
	deltas sample    // residuals of the stretch
	raw    []float64 // residuals of one update, without the normaliser
}

// stretch sums up the updates since the last row.
type stretch struct {
	updates      int
	trajectories int
	refused      uint64
	replayed     uint64 // trajectories of stored objects
	downweighted uint64 // stale ones that were trained on with less weight

	// Sums over updates, of which weighed had behaviour log-probabilities.
	loss, grad, c, tail float64
	ess, kl             float64
	weighed             int

	lags      runs.LagHistogram
	weights   losses.ImportanceSums
	offPolicy bool    // a trajectory was not sampled from the P_F that it trained
	elbo      float64 // sum over trajectories, while none was off-policy
	last      runs.Row
}

// NewRecorder starts an empty stretch.
func NewRecorder(spec *job.Spec) *Recorder {
	return &Recorder{spec: spec, deltas: sample{seed: spec.Seed}}
}

// Add counts one update.
func (r *Recorder) Add(u *Update) {
	o := u.Loss
	r.updates++
	r.trajectories += len(u.Batch)
	r.replayed += uint64(len(u.Batch) - u.Fresh)
	r.refused += uint64(u.Refused)
	r.loss += o.Loss
	r.grad += u.GradNorm
	r.c += mean(o.C)
	r.tail += o.Diagnostics.TailShare
	if known := o.Diagnostics.Known; known > 0 {
		r.weighed++
		r.ess += o.Diagnostics.ESS / float64(known)
		r.kl += o.Diagnostics.KL
	}
	for _, delta := range o.Delta {
		r.deltas.add(delta)
	}
	for i := range u.Batch {
		r.weights.Add(u.In.LogReward[i], u.In.LogPB[i], u.In.LogBehaviour[i])
		if i < u.Fresh {
			r.lags.Add(int64(u.Version)-1-int64(u.Batch[i].Version), 1)
		}
		if w := u.Batch[i].Weight; 0 < w && w < 1 {
			r.downweighted++
		}
	}
	r.bound(u)
	z := losses.LearnedLogZ(u.LogZ)
	r.last = runs.Row{
		Version: int64(u.Version), Trajectories: u.Trajectories,
		LearningRate: runs.Float(u.LearningRate), LogZRate: runs.Float(u.LogZRate),
		LogZ: runs.Float(z.Value), LogZEstimator: z.Estimator,
	}
}

// bound adds an update to the ELBO. One trajectory of another behaviour than
// P_F itself, and the stretch has none.
func (r *Recorder) bound(u *Update) {
	if r.offPolicy = r.offPolicy || !r.onPolicy(u); r.offPolicy {
		return
	}
	r.raw = r.raw[:0]
	for i, pf := range u.In.LogPF {
		r.raw = append(r.raw, pf-u.In.LogReward[i]-u.In.LogPB[i])
	}
	z, err := losses.ELBO(r.raw)
	if err != nil {
		r.offPolicy = true
		return
	}
	r.elbo += float64(z.Value * float64(z.N))
}

// onPolicy says whether every trajectory was sampled from P_F as it was before
// this update, without exploration.
func (r *Recorder) onPolicy(u *Update) bool {
	from := u.Version - 1
	s := &r.spec.Sampling
	if s.Epsilon.At(int64(from)) != 0 || s.Temperature.At(int64(from)) != 1 {
		return false
	}
	for i := range u.Batch {
		if u.Batch[i].Version != from || math.IsNaN(u.Batch[i].LogBehaviour) {
			return false
		}
	}
	return true
}

// Empty says whether the stretch has no update yet.
func (r *Recorder) Empty() bool { return r.updates == 0 }

// Row returns the row of the stretch, which ends at u's present version, and
// begins the next one.
func (r *Recorder) Row(u *Updater) runs.Row {
	row, n := r.last, float64(max(1, r.updates))
	row.Loss, row.GradNorm = runs.Float(r.loss/n), runs.Float(r.grad/n)
	row.C, row.TailShare = runs.Float(r.c/n), runs.Float(r.tail/n)
	if r.weighed > 0 {
		row.ESS = runs.Some(r.ess / float64(r.weighed))
		row.BehaviourKL = runs.Some(r.kl / float64(r.weighed))
	}
	for i, q := range r.deltas.quantiles(runs.DeltaLevels[:]...) {
		row.DeltaQ[i] = runs.Float(q)
	}
	r.logZ(&row)
	row.Lag = runs.LagStats{Min: r.lags.Quantile(0), Median: r.lags.Quantile(0.5), P95: r.lags.Quantile(0.95), Max: r.lags.Quantile(1)}
	row.LagCounts = r.lags
	row.Refused, row.Replayed, row.Downweighted = r.refused, r.replayed, r.downweighted
	if b := u.Bias(); b != nil {
		rep := b.Report()
		row.BiasShift, row.BiasTV = runs.Some(float64(rep.MeanShift)), runs.Some(float64(rep.BinsTV))
	}
	if best := u.Best(); len(best) > 0 {
		row.BestLogReward = runs.Some(best[0].LogReward)
	}
	if found, total := u.ModesFound(); total > 0 {
		row.ModesFound, row.ModesTotal = &found, &total
	}
	r.inForce(&row, u)
	r.stretch = stretch{}
	r.deltas.reset()
	return row
}

// logZ fills in the estimates. A log Z that is not learned is the best of the
// others, and unknown without one.
func (r *Recorder) logZ(row *runs.Row) {
	learned := r.spec.Loss.LearnsLogZ()
	if !learned {
		row.LogZ, row.LogZEstimator = runs.Float(math.NaN()), ""
	}
	if !r.offPolicy && r.trajectories > 0 {
		row.ELBO = runs.Some(r.elbo / float64(r.trajectories))
		if !learned {
			row.LogZ, row.LogZEstimator = *row.ELBO, "elbo"
		}
	}
	if z, err := r.weights.LogZ(); err == nil {
		row.LogZIS, row.LogZISError = runs.Some(z.Value), runs.Some(z.StdErr)
		if !learned {
			row.LogZ, row.LogZEstimator = runs.Float(z.Value), z.Estimator
		}
	}
}

// inForce fills in what schedules give at the row's version.
func (r *Recorder) inForce(row *runs.Row, u *Updater) {
	row.Epsilon = runs.Float(r.spec.Sampling.Epsilon.At(row.Version))
	row.Temperature = runs.Float(r.spec.Sampling.Temperature.At(row.Version))
	row.RewardExponent = runs.Float(r.spec.RewardExponent.At(row.Version))
	member := u.Divergence()
	if a, ok := member.EffectiveAlpha(); ok {
		row.EffectiveAlpha = runs.Some(a)
	}
	tail, temper := losses.Modifiers(member)
	if tail > 0 {
		row.Tail = runs.Some(tail)
	}
	if temper > 0 {
		row.Temper = runs.Some(temper)
	}
}

// AddExact adds the exact metrics of a version to its row.
func AddExact(row *runs.Row, rep *metrics.Report) {
	d := rep.Distances
	row.TV, row.KL, row.KLReverse = runs.Some(d.TV), runs.Some(d.ForwardKL), runs.Some(d.ReverseKL)
	row.JS, row.L1 = runs.Some(d.JSD), runs.Some(d.L1/float64(rep.Objects))
	row.Hellinger, row.Chi2, row.Chi2Reverse = runs.Some(d.Hellinger), runs.Some(d.Chi2), runs.Some(d.Chi2Reverse)
	row.ExactPearson, row.ExactSpearman = runs.Some(rep.Correlation.Pearson), runs.Some(rep.Correlation.Spearman)
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
