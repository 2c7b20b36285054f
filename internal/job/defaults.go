package job

import "github.com/driftmesh/driftmesh/internal/schedule"

// Default returns the values of everything that a job file leaves out. What
// has no sensible default is left empty: the environment, and the name, which
// Load takes from the file.
func Default() *Spec {
	return &Spec{
		Seed: 1,
		Env:  Env{Params: map[string]any{}},
		Policy: Policy{
			Kind: "mlp",
			// Two layers of 256 are what the GFlowNet literature uses on
			// hypergrids; a leaky unit cannot die under the large early residuals.
			Hidden:     []int{256, 256},
			Activation: "leaky_relu",
			// Learning P_B with the loss lets credit reach s0 sooner.
			Backward: "joint",
		},
		Loss: Loss{
			// Between covering and seeking: by Fawkes & Hartford (ICML 2026) it
			// finds all modes of hypergrids sooner than classic TB, and its
			// weights have half the exponent of forward KL's.
			Divergence: "hellinger",
			// A learned log Z has no bias from the batch's size and doubles as
			// the estimate that reports compare with the exact one.
			Normaliser:   "learned",
			RunningDecay: 0.9,
		},
		RewardExponent: schedule.Const(1),
		Optimiser: Optimiser{
			Kind:         "adam",
			LearningRate: schedule.Const(1e-3),
			// log Z starts at 0 and may have to travel far; Adam moves it by
			// about its rate per update.
			LogZRate: schedule.Const(0.1),
			Beta1:    0.9,
			Beta2:    0.999,
			Epsilon:  1e-8,
		},
		Sampling: Sampling{
			// On-policy unless asked otherwise.
			Epsilon:     schedule.Const(0),
			Temperature: schedule.Const(1),
		},
		Train: Train{Batch: 16, Updates: 5000},
		// Exact evaluation touches every state: beyond some millions it would
		// take longer than the training between two of them.
		Eval: Eval{Every: 100, MaxStates: 4_000_000},
		Mesh: Mesh{
			// Publication 20 times a second keeps workers fresh at a rate that
			// a log on one disk bears easily.
			WindowMS: 50,
			// f-TB stays correct on stale data: nothing is refused by default.
			OnStale: "admit",
			Rollout: 16,
			// Four batches: enough that the learner never waits for one slow
			// worker, few enough that what it trains on is recent.
			ReplayMax: replayBatches * 16,
			Weight:    1,
			Publish:   "float32",
			Archive:   "off",
		},
		Replay: Replay{
			Kind: "none",
			// A few hundred thousand short objects.
			Bytes: 64 << 20,
			// Half fresh, half old: twice the learning per reward evaluation
			// without straying far from the workers' policy.
			SamplesPerInsert: 2,
			RewardExponent:   1,
			Recent:           0.5,
			TopK:             1000,
			MinDistance:      0.1,
		},
	}
}

// replayBatches is how many batches may wait for the learner by default.
const replayBatches = 4
