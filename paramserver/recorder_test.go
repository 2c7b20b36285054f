package paramserver_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/paramserver"
)

// lesson is an Updater whose updates are recorded, and beside the Recorder
// everything of the stretch, as it was.
type lesson struct {
	t   testing.TB
	u   *paramserver.Updater
	rec *paramserver.Recorder
	n   int // trajectories per update
	// alter changes a batch before it is trained on.
	alter func(batch []wire.Trajectory)

	loss, deltas, raw     []float64
	logR, logPB, logQ     []float64
	tailShares, gradNorms []float64
}

func newLesson(t testing.TB, spec *job.Spec) *lesson {
	return &lesson{t: t, u: newUpdater(t, spec), rec: paramserver.NewRecorder(spec), n: spec.Train.Batch}
}

// train makes updates on trajectories of the present parameters, said to be
// those of lag updates ago.
func (l *lesson) train(updates int, lag uint64) {
	l.t.Helper()
	roller := newRoller(l.t, l.u.Spec)
	for range updates {
		from := l.u.Version() - min(lag, l.u.Version())
		batch, err := roller.SampleN(l.n, l.u.Params(), from, l.u.Trajectories()+1, nil)
		if err != nil {
			l.t.Fatal(err)
		}
		if l.alter != nil {
			l.alter(batch)
		}
		u := mustStep(l.t, l.u, batch)
		l.rec.Add(u)
		l.loss = append(l.loss, u.Loss.Loss)
		l.gradNorms = append(l.gradNorms, u.GradNorm)
		l.tailShares = append(l.tailShares, u.Loss.Diagnostics.TailShare)
		l.deltas = append(l.deltas, u.Loss.Delta...)
		for i := range batch {
			l.raw = append(l.raw, u.In.LogPF[i]-u.In.LogReward[i]-u.In.LogPB[i])
		}
		l.logR = append(l.logR, u.In.LogReward...)
		l.logPB = append(l.logPB, u.In.LogPB...)
		l.logQ = append(l.logQ, u.In.LogBehaviour...)
	}
}

// row ends the stretch.
func (l *lesson) row() runs.Row {
	*l = lesson{t: l.t, u: l.u, rec: l.rec, n: l.n, alter: l.alter}
	return l.rec.Row(l.u)
}

func mean(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v / float64(len(x))
	}
	return s
}

func near(t testing.TB, what string, got runs.Float, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= tolerance*math.Max(1, math.Abs(want))) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// known is an optional field that must be there.
func known(t testing.TB, what string, f *runs.Float) runs.Float {
	t.Helper()
	if _, ok := runs.Known(f); !ok {
		t.Fatalf("%s is not known", what)
	}
	return *f
}

// TestRowSumsUpItsStretch, computed again from everything that was trained on.
func TestRowSumsUpItsStretch(t *testing.T) {
	spec := smallSpec()
	spec.Loss.Divergence = "forward_kl,temper:0.5"
	spec.Loss.Tail = &schedule.Value{Kind: schedule.Linear, From: 2, To: 4, Over: 20}
	spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Linear, From: 1e-3, To: 0, Over: 1000}
	l := newLesson(t, spec)
	for stretch, updates := range []int{10, 30} {
		if !l.rec.Empty() {
			t.Fatal("a new stretch is not empty")
		}
		l.train(updates, 0)
		all := *l
		row := l.row()
		if v := []int64{10, 40}[stretch]; row.Version != v || row.Trajectories != uint64(16*v) || row.LagCounts.Total() != uint64(16*updates) {
			t.Errorf("stretch %d ends at version %d with %d trajectories, %d of its own", stretch, row.Version, row.Trajectories, row.LagCounts.Total())
		}
		near(t, "loss", row.Loss, mean(all.loss), 1e-12)
		near(t, "gradient norm", row.GradNorm, mean(all.gradNorms), 1e-12)
		near(t, "tail share", row.TailShare, mean(all.tailShares), 1e-12)
		slices.Sort(all.deltas)
		at := int(0.5 * float64(len(all.deltas)-1))
		if d := float64(row.DeltaQ[2]); d < all.deltas[at] || d > all.deltas[at+1] {
			t.Errorf("the median residual is %v, want one from %v to %v", d, all.deltas[at], all.deltas[at+1])
		}
		is, err := losses.ImportanceLogZ(all.logR, all.logPB, all.logQ)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "importance log Z", known(t, "importance log Z", row.LogZIS), is.Value, 0)
		near(t, "its error", known(t, "its error", row.LogZISError), is.StdErr, 0)
		elbo := known(t, "ELBO", row.ELBO)
		near(t, "ELBO", elbo, -mean(all.raw), 1e-12)
		if elbo > *row.LogZIS+1e-6 { // Jensen: the mean of logs against the log of the mean
			t.Errorf("the ELBO %v is above the importance estimate %v", elbo, *row.LogZIS)
		}
		near(t, "ESS", known(t, "ESS", row.ESS), 1, 1e-5)
		near(t, "KL from the behaviour", known(t, "KL", row.BehaviourKL), 0, 1e-5)
		if row.LogZEstimator != "learned" || float64(row.LogZ) != l.u.LogZ() {
			t.Errorf("log Z is %v, %q", row.LogZ, row.LogZEstimator)
		}
		// In force at the row's version.
		near(t, "tail", known(t, "tail", row.Tail), []float64{3, 4}[stretch], 1e-12)
		near(t, "temper", known(t, "temper", row.Temper), 0.5, 0)
		near(t, "effective alpha", known(t, "effective alpha", row.EffectiveAlpha), 0.5, 1e-12)
		near(t, "learning rate", row.LearningRate, 1e-3*(1-float64(row.Version-1)/1000), 1e-9)
		near(t, "best log-reward", known(t, "best log-reward", row.BestLogReward), l.u.Best()[0].LogReward, 0)
	}
}

// TestOnlyOnPolicyStretchesHaveAnELBO.
func TestOnlyOnPolicyStretchesHaveAnELBO(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*job.Spec)
		alter  func([]wire.Trajectory)
		lag    uint64
		has    bool
	}{
		"on-policy":   {has: true},
		"stale":       {lag: 1},
		"exploring":   {change: func(s *job.Spec) { s.Sampling.Epsilon = schedule.Const(0.1) }},
		"heated":      {change: func(s *job.Spec) { s.Sampling.Temperature = schedule.Const(2) }},
		"given paths": {alter: func(b []wire.Trajectory) { b[3].LogBehaviour = math.NaN() }},
		"exploring until version 2": {change: func(s *job.Spec) {
			s.Sampling.Epsilon = schedule.Value{Kind: schedule.Linear, From: 0.2, To: 0, Over: 2}
		}},
	} {
		spec := smallSpec()
		if c.change != nil {
			c.change(spec)
		}
		l := newLesson(t, spec)
		l.alter = c.alter
		l.train(4, c.lag)
		row := l.row()
		if _, has := runs.Known(row.ELBO); has != c.has {
			t.Errorf("%s: an ELBO is %v", name, has)
		}
		if _, has := runs.Known(row.LogZIS); !has {
			t.Errorf("%s: there is no importance estimate", name)
		}
		if row.Tail != nil || row.Temper != nil {
			t.Errorf("%s: modifiers that hellinger does not have", name)
		}
		if name == "exploring until version 2" {
			l.train(4, 0)
			known(t, name+", then", l.row().ELBO) // the next stretch starts anew
		}
	}
}

// TestLogZWithoutALearnedOne is the best of the other estimates, by its name.
func TestLogZWithoutALearnedOne(t *testing.T) {
	spec := smallSpec()
	spec.Loss.Normaliser = "batch_optimal"
	l := newLesson(t, spec)
	l.train(3, 0)
	if row := l.row(); row.LogZEstimator != "importance" || row.LogZ != *row.LogZIS {
		t.Errorf("log Z is %v, %q", row.LogZ, row.LogZEstimator)
	}
	l.alter = func(b []wire.Trajectory) {
		for i := range b {
			b[i].LogBehaviour = math.NaN()
		}
	}
	l.train(3, 0)
	row := l.row()
	if row.LogZEstimator != "" || !math.IsNaN(float64(row.LogZ)) || row.LogZIS != nil || row.ELBO != nil || row.ESS != nil {
		t.Errorf("log Z of trajectories without a behaviour is %v, %q", row.LogZ, row.LogZEstimator)
	}
	if text, err := json.Marshal(row); err != nil {
		t.Errorf("%s, %v", text, err)
	}
}

// TestBestLogRewardIsSinceTheJobBegan, over a restart.
func TestBestLogRewardIsSinceTheJobBegan(t *testing.T) {
	l := newLesson(t, smallSpec())
	l.train(10, 0)
	before := known(t, "best", l.row().BestLogReward)
	params, private, err := l.u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again := newLesson(t, l.u.Spec)
	if err := again.u.Restore(l.u.Version(), params, private); err != nil {
		t.Fatal(err)
	}
	again.alter = func(b []wire.Trajectory) {
		for i := range b {
			b[i].LogReward = -20
		}
	}
	again.train(1, 0)
	if after := known(t, "best", again.row().BestLogReward); after != before {
		t.Errorf("the best log-reward was %v and is %v after a restart", before, after)
	}
}

// TestLongStretchesGiveEqualRows for equal seeds, and about the quantiles of
// everything, beyond what a Recorder keeps.
func TestLongStretchesGiveEqualRows(t *testing.T) {
	spec := smallSpec()
	spec.Train.Batch = 1 << 13
	var rows [2]string
	for i := range rows {
		l := newLesson(t, spec)
		l.train(10, 0)
		all := slices.Sorted(slices.Values(l.deltas))
		row := l.row()
		for k, p := range runs.DeltaLevels {
			at, _ := slices.BinarySearch(all, float64(row.DeltaQ[k]))
			// Ties are many on 16 cells: the level lies within those of the value.
			end := at
			for end < len(all) && all[end] <= float64(row.DeltaQ[k])+1e-12 {
				end++
			}
			n := float64(len(all))
			if p < float64(at)/n-0.02 || p > float64(end)/n+0.02 {
				t.Errorf("quantile %v of %d residuals is %v, which stands from %v to %v", p, len(all), row.DeltaQ[k], float64(at)/n, float64(end)/n)
			}
		}
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		rows[i] = string(text)
	}
	if rows[0] != rows[1] {
		t.Errorf("equal seeds give\n%s\n%s", rows[0], rows[1])
	}
}
