// Package rng derives every random stream of a run from its one seed. A stream
// is named by what it is for and who draws from it, never by when it was made,
// so the order in which goroutines run cannot change what they draw.
package rng

import "math/rand/v2"

// Purpose separates the streams of one seed.
type Purpose uint64

const (
	Init      Purpose = iota + 1 // initial parameters
	Rollout                      // actions of sampled trajectories
	Explore                      // exploration decisions
	Evaluate                     // objects drawn for evaluation
	Replay                       // draws from a replay buffer
	Thin                         // which of many values statistics keep
	Resample                     // which objects an update replays, and their new trajectories
	Fault                        // jitter and losses of an injected fault
	Archive                      // which trajectories an archive samples
	Bootstrap                    // which residuals an interval is estimated from
	Data                         // which objects of a data set an update draws, and their trajectories
)

// Target is for what a target is made of, such as its modes. It is numbered apart,
// because what it draws is part of an environment.
const Target Purpose = 1000

// New returns the stream of (seed, purpose, ids...). Equal arguments give equal
// streams on every machine; streams of different arguments are independent.
func New(seed uint64, purpose Purpose, ids ...uint64) *rand.Rand {
	return rand.New(NewSource(seed, purpose, ids...))
}

// NewSource returns the PCG state behind New, for callers that reuse it.
func NewSource(seed uint64, purpose Purpose, ids ...uint64) *rand.PCG {
	hi, lo := derive(seed, purpose, ids)
	return rand.NewPCG(hi, lo)
}

// Reseed turns pcg into the stream of (seed, purpose, ids...) without allocating.
func Reseed(pcg *rand.PCG, seed uint64, purpose Purpose, ids ...uint64) {
	pcg.Seed(derive(seed, purpose, ids))
}

func derive(seed uint64, purpose Purpose, ids []uint64) (hi, lo uint64) {
	h := mix(seed + 0x9e3779b97f4a7c15*uint64(purpose))
	for _, id := range ids {
		h = mix(h ^ (id + 0x9e3779b97f4a7c15))
	}
	return h, mix(h + 0x9e3779b97f4a7c15)
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}
