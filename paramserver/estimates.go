package paramserver

import (
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/metrics"
)

// Estimates is what an Estimator found of one version. What the job does not ask
// for, or the environment cannot say, is nil.
type Estimates struct {
	Samples int       `json:"samples"` // trajectories of P_F
	ELBO    *Estimate `json:"elbo,omitempty"`
	EUBO    *Estimate `json:"eubo,omitempty"`
	LogZ    *Estimate `json:"log_z,omitempty"` // by importance sampling
	// TrueLogZ is what the environment knows of its target in closed form.
	TrueLogZ *runs.Float   `json:"true_log_z,omitempty"`
	TopK     *metrics.TopK `json:"top_k,omitempty"`
	Modes    *SampledModes `json:"modes,omitempty"`
	// Counted compares counts of the samples with a target that can be listed.
	Counted  *metrics.Counted `json:"counted,omitempty"`
	TestSet  *TestSet         `json:"test_set,omitempty"`
	Sinkhorn *Transport       `json:"sinkhorn,omitempty"`
}

// Transport is what it costs to move samples to as many draws of the target.
type Transport struct {
	metrics.Sinkhorn
	// Floor is what it costs between two sets of draws: where a perfect sampler ends.
	Floor runs.Float `json:"floor"`
}

// Estimate is a number with what is known of its error.
type Estimate struct {
	Value   runs.Float `json:"value"`
	StdErr  runs.Float `json:"std_err"`
	Samples int        `json:"samples"`
	ESS     runs.Float `json:"ess"` // effective sample size, in samples
}

func estimated(z losses.LogZ, err error) (*Estimate, error) {
	if err != nil {
		return nil, err
	}
	return &Estimate{Value: runs.Float(z.Value), StdErr: runs.Float(z.StdErr), Samples: z.N, ESS: runs.Float(z.ESS)}, nil
}

// SampledModes says which modes samples are in.
type SampledModes struct {
	Hit   int `json:"hit"` // by at least one sample
	Total int `json:"total"`
	// Shares is the share of the samples in each mode; nil for more than maxShares
	// modes. An object may be in several modes, or in none.
	Shares []float64 `json:"shares,omitempty"`
}

// TestSet says how well log-probabilities follow log-rewards on test objects.
type TestSet struct {
	Objects   int        `json:"objects"`
	PerObject int        `json:"per_object"` // backward trajectories
	Pearson   runs.Float `json:"pearson"`
	Spearman  runs.Float `json:"spearman"`
	// Bounds of the two with 95 % confidence, for objects like those of the test set.
	PearsonLow   runs.Float `json:"pearson_low"`
	PearsonHigh  runs.Float `json:"pearson_high"`
	SpearmanLow  runs.Float `json:"spearman_low"`
	SpearmanHigh runs.Float `json:"spearman_high"`
}

// AddTo writes the estimates into the row of their version.
func (e *Estimates) AddTo(row *runs.Row) {
	some := func(f runs.Float) *runs.Float { return &f }
	row.EvalSamples = e.Samples
	if z := e.ELBO; z != nil {
		row.EvalELBO, row.EvalELBOError = some(z.Value), some(z.StdErr)
	}
	if z := e.EUBO; z != nil {
		row.EvalEUBO, row.EvalEUBOError = some(z.Value), some(z.StdErr)
	}
	if z := e.LogZ; z != nil {
		row.EvalLogZ, row.EvalLogZError = some(z.Value), some(z.StdErr)
		row.EvalESS = some(z.ESS / runs.Float(z.Samples))
	}
	if row.LogZExact == nil {
		row.LogZExact = e.TrueLogZ
	}
	if c := e.Counted; c != nil {
		row.SampleTV, row.SampleTVFloor = runs.Some(c.TV.Value), runs.Some(c.Floor)
		row.SampleTVLow, row.SampleTVHigh = runs.Some(c.TV.Low), runs.Some(c.TV.High)
	}
	if m := e.Modes; m != nil {
		hit := m.Hit
		row.SampleModes = &hit
		if len(m.Shares) > 0 {
			least, most := m.Shares[0], m.Shares[0]
			for _, s := range m.Shares {
				least, most = min(least, s), max(most, s)
			}
			row.ModeShareMin, row.ModeShareMax = runs.Some(least), runs.Some(most)
		}
	}
	if k := e.TopK; k != nil {
		row.TopKReward, row.TopKLogReward, row.TopKDiversity = runs.Some(k.Reward), runs.Some(k.LogReward), runs.Some(k.Diversity)
	}
	if t := e.TestSet; t != nil {
		row.TestPearson, row.TestSpearman = some(t.Pearson), some(t.Spearman)
		row.TestPearsonLow, row.TestPearsonHigh = some(t.PearsonLow), some(t.PearsonHigh)
		row.TestSpearmanLow, row.TestSpearmanHigh = some(t.SpearmanLow), some(t.SpearmanHigh)
	}
	if s := e.Sinkhorn; s != nil {
		row.Sinkhorn, row.SinkhornFloor = runs.Some(s.Cost), some(s.Floor)
	}
}
