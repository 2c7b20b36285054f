package paramserver_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver"
)

// TestExactNormaliser: the residuals have the exact log Z of the target at the
// update, which moves where the exponent does, and nothing is trained in its place.
func TestExactNormaliser(t *testing.T) {
	for _, exponent := range []schedule.Value{
		schedule.Const(1), schedule.Const(0.5),
		{Kind: schedule.Linear, From: 0.5, To: 2, Over: 3},
	} {
		spec := smallSpec()
		spec.Loss.Normaliser, spec.RewardExponent = "exact", exponent
		u := newUpdater(t, spec)
		for range 3 {
			beta := exponent.At(int64(u.Version()))
			target, err := metrics.NewEvaluator(u.Env, beta)
			if err != nil {
				t.Fatal(err)
			}
			up, err := u.Step(sampled(t, u, 16), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := up.Loss.C[0]; math.Abs(got-target.LogZ()) > 1e-9 {
				t.Errorf("exponent %v: log Z is %v, want %v", beta, got, target.LogZ())
			}
			if up.LogZ != 0 {
				t.Errorf("the learned log Z moved to %v", up.LogZ)
			}
		}
	}
}

// TestExactNormaliserIsRefused: where log Z is not known, the field says so.
func TestExactNormaliserIsRefused(t *testing.T) {
	spec := gridSpec(12, 8) // has a closed form
	spec.Loss.Normaliser = "exact"
	u := newUpdater(t, spec)
	if _, err := envs.Enumerate(u.Env); err == nil {
		t.Fatal("the grid is listed after all")
	}
	spec.RewardExponent = schedule.Const(2) // and has none for this
	var fault *fielderr.Error
	if _, _, err := paramserver.Check(spec); !errors.As(err, &fault) || fault.Path != "loss.normaliser" || !strings.Contains(fault.Want, "not known") {
		t.Errorf("got %v", err)
	}
}
