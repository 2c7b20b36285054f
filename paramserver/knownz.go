package paramserver

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/losses"
)

// knownLogZ is log Σ_x R(x)^β of an environment, for the exact normaliser.
type knownLogZ struct {
	beta, logZ float64   // the last that was asked for
	logR       []float64 // of every object; nil while β is constant
}

// newKnownLogZ looks for a closed form, which environments have for β = 1, and
// else lists the objects. An environment with neither is a *fielderr.Error with
// path "normaliser".
func newKnownLogZ(env envs.Env, spec *job.Spec) (*knownLogZ, error) {
	beta := spec.RewardExponent
	constant := beta.IsConst()
	if z := envs.FactsOf(env).LogZ; z != nil && constant && beta.At(0) == 1 {
		return &knownLogZ{beta: 1, logZ: *z}, nil
	}
	e, err := envs.Enumerate(env)
	if err != nil {
		return nil, fielderr.New("normaliser", string(losses.Exact), fmt.Sprintf(
			"learned or batch_optimal: log Z of this target is not known (%v)", err))
	}
	k := &knownLogZ{beta: math.NaN(), logR: make([]float64, e.NumObjects())}
	e.LogRewards(k.logR)
	k.at(beta.At(0))
	if constant {
		k.logR = nil
	}
	return k, nil
}

// at is log Z of R^beta.
func (k *knownLogZ) at(beta float64) float64 {
	if beta == k.beta || k.logR == nil {
		return k.logZ
	}
	top, sum := math.Inf(-1), 0.0
	for _, r := range k.logR {
		top = max(top, beta*r)
	}
	for _, r := range k.logR {
		sum += math.Exp(beta*r - top)
	}
	k.beta, k.logZ = beta, top+math.Log(sum)
	return k.logZ
}
