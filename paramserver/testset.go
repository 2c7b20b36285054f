package paramserver

import (
	"context"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/metrics"
)

// correlated replicates of a test set give the intervals of correlations.
const correlated = 1000

// CheckEval finds what the eval section asks for and no evaluation could give: a
// test set that there is not. The fault is a *fielderr.Error.
func (u *Updater) CheckEval() error {
	k := u.Spec.Eval.TestSet
	if k == 0 {
		return nil
	}
	fault := func(why string) error { return fielderr.New("eval.test_set", k, "0: "+why) }
	name := u.Env.Spec().Name
	switch tested, ok := u.Env.(envs.Tested); {
	case u.Spec.Reward != nil:
		return fault("the test set of an environment is of its own rewards, and this job has those of a program")
	case u.prior != nil:
		return fault("with loss.prior the target is the prior's distribution times R, and nothing else has a log-probability to correlate")
	case !ok:
		return fault(name + " has no test set, and bitseq has one; where objects can be listed, exact_pearson and exact_spearman are of all of them")
	case tested.NumTests() == 0:
		return fault(name + " with these parameters has no test set")
	}
	return nil
}

// test correlates log-probability and log-reward on the test set.
func (e *Estimator) test(ctx context.Context, params []float32, version uint64, out *Estimates) error {
	tested, ok := e.env.(envs.Tested)
	k := e.spec.Eval.TestSet
	if !ok || k == 0 || tested.NumTests() == 0 {
		return nil
	}
	var logPF, logPB, logReward []float64
	err := e.backward(ctx, params, version*streams+testStream, tested.NumTests()*k,
		func(s envs.States, row, i int) error {
			tested.LoadTest(s, row, i/k)
			return nil
		},
		func(i int) {
			if len(logPF)%k == 0 {
				logReward = append(logReward, e.logReward[i])
			}
			logPF, logPB = append(logPF, e.logPF[i]), append(logPB, e.logPB[i])
		})
	if err != nil {
		return err
	}
	logP, err := metrics.BackwardImportance(logPF, logPB, k)
	if err != nil {
		return err
	}
	pearson, err := metrics.Pearson(logP, logReward)
	if err != nil {
		return err
	}
	spearman, err := metrics.Spearman(logP, logReward)
	if err != nil {
		return err
	}
	p, s, err := metrics.CorrelationBounds(logP, logReward, correlated, rng.New(e.spec.Seed, rng.Bootstrap, version, testStream))
	if err != nil {
		return err
	}
	out.TestSet = &TestSet{
		Objects: len(logP), PerObject: k, Pearson: runs.Float(pearson), Spearman: runs.Float(spearman),
		PearsonLow: runs.Float(p.Low), PearsonHigh: runs.Float(p.High), SpearmanLow: runs.Float(s.Low), SpearmanHigh: runs.Float(s.High),
	}
	return nil
}
