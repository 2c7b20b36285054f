package envs

// Potential is States that know something of the reward before the object is
// finished. Forward-looking objectives (Pan et al., ICML 2023) learn flows
// relative to it, so that credit need not come all the way from the end.
type Potential interface {
	States
	// LogPotential writes a log-reward for each unfinished row, in nats: any finite
	// function of the state that is 0 at s0. The nearer it is to what the objects
	// below the state earn, the less there is left to learn. It is not asked of finished
	// rows: their reward is LogReward.
	LogPotential(rows []int32, out []float64) error
}
