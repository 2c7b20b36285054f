package paramserver

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/paramserver/optim"
)

// farLogZ is how many nats off a first log Z must be to be named as a cause.
const farLogZ = 20

// hintLogZ adds to the error of a first update of trajectory balance what its log Z should
// have been, when that is far off: all residuals are then shifted alike, and the weights of losses that
// are exponential in them leave float32. Other errors are returned as they are.
func (u *Updater) hintLogZ(err error) error {
	if u.version > 0 || !u.Spec.Loss.LearnsLogZ() || u.Spec.Loss.ObjectiveName() != job.TB || !errors.Is(err, optim.ErrNonFinite) && !errors.Is(err, losses.ErrNonFinite) {
		return err
	}
	now := u.Spec.Loss.LogZInit
	hint := func(z float64, what, remedy string) error {
		return fmt.Errorf("%w; %s is %.4g and loss.log_z_init %.4g: set it to about %.4g%s", err, what, z, now, z, remedy)
	}
	if env, ok := u.Env.(envs.Described); ok && u.prior == nil && u.Spec.RewardExponent.IsConst() && u.Spec.RewardExponent.At(0) == 1 {
		if z := env.Facts().LogZ; z != nil {
			if far(*z - now) {
				return hint(*z, "the exact log Z", ", or use loss.normaliser exact or batch_optimal")
			}
			return err
		}
	}
	if z := medianLogWeight(&u.in); far(z - now) {
		return hint(z, "the median of log R + log P_B - log P_F over the batch, which log Z should balance,", ", or use loss.normaliser batch_optimal")
	}
	return err
}

// far is false for NaN.
func far(gap float64) bool { return math.Abs(gap) > farLogZ && !math.IsInf(gap, 0) }

// medianLogWeight is that of −δ without log Z: one reward that is far off is not log Z's
// fault. NaN where a score is.
func medianLogWeight(in *losses.Input) float64 {
	weights := make([]float64, len(in.LogPF))
	for i := range weights {
		weights[i] = in.LogReward[i] + in.LogPB[i] - in.LogPF[i]
		if math.IsNaN(weights[i]) {
			return math.NaN()
		}
	}
	slices.Sort(weights)
	return weights[len(weights)/2]
}
