package runs

// Estimates are the fields of a Row that an evaluation estimates from samples of
// P_F at Version, without exploration, for the final reward exponent. All are
// absent where the job does not ask for them, or the environment cannot say.
type Estimates struct {
	// EvalSamples is the number of trajectories of P_F.
	EvalSamples int `json:"eval_samples,omitempty"`
	// EvalELBO is mean log(R·P_B/P_F), in expectation log Z less the KL divergence
	// model‖target over trajectories; EvalELBOError is its standard error.
	EvalELBO      *Float `json:"eval_elbo,omitempty"`
	EvalELBOError *Float `json:"eval_elbo_error,omitempty"`
	// EvalEUBO is the same mean over trajectories that P_B samples backward from
	// objects of the exact target: in expectation log Z and KL(target‖model).
	EvalEUBO      *Float `json:"eval_eubo,omitempty"`
	EvalEUBOError *Float `json:"eval_eubo_error,omitempty"`
	// EvalLogZ is log mean(R·P_B/P_F), EvalLogZError its standard error, and
	// EvalESS the effective share of the samples, in (0, 1].
	EvalLogZ      *Float `json:"eval_log_z,omitempty"`
	EvalLogZError *Float `json:"eval_log_z_error,omitempty"`
	EvalESS       *Float `json:"eval_ess,omitempty"`

	// SampleTV is the total variation between the target and the samples, less its
	// estimated bias; Low and High are a 95 % interval, Floor is what as many
	// samples of the target would show.
	SampleTV      *Float `json:"sample_tv,omitempty"`
	SampleTVLow   *Float `json:"sample_tv_low,omitempty"`
	SampleTVHigh  *Float `json:"sample_tv_high,omitempty"`
	SampleTVFloor *Float `json:"sample_tv_floor,omitempty"`

	// SampleModes counts the modes that the samples hit. ModeShareMin and
	// ModeShareMax are the least and the largest share of the samples in a mode.
	SampleModes  *int   `json:"sample_modes,omitempty"`
	ModeShareMin *Float `json:"mode_share_min,omitempty"`
	ModeShareMax *Float `json:"mode_share_max,omitempty"`

	// TopKReward and TopKLogReward are the means of R and log R over the eval.top_k
	// best distinct samples, TopKDiversity the mean distance of two of them in [0, 1].
	TopKReward    *Float `json:"top_k_reward,omitempty"`
	TopKLogReward *Float `json:"top_k_log_reward,omitempty"`
	TopKDiversity *Float `json:"top_k_diversity,omitempty"`

	// TestPearson and TestSpearman correlate log-probability, by backward importance
	// sampling, with log-reward over the environment's test set. Those over all objects
	// are Row.ExactPearson and Row.ExactSpearman.
	TestPearson  *Float `json:"test_pearson,omitempty"`
	TestSpearman *Float `json:"test_spearman,omitempty"`
	// Their 95 % intervals, by bootstrap over the test objects.
	TestPearsonLow   *Float `json:"test_pearson_low,omitempty"`
	TestPearsonHigh  *Float `json:"test_pearson_high,omitempty"`
	TestSpearmanLow  *Float `json:"test_spearman_low,omitempty"`
	TestSpearmanHigh *Float `json:"test_spearman_high,omitempty"`

	// Sinkhorn is the entropic transport cost (squared distance) between samples
	// and exact samples of the target, the floor that between two sets of the latter.
	Sinkhorn      *Float `json:"sinkhorn,omitempty"`
	SinkhornFloor *Float `json:"sinkhorn_floor,omitempty"`
}
