package paramserver_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/paramserver/optim"
)

// TestHintsAtLogZ: a first update whose gradient overflows because log Z begins
// hundreds of nats away says both numbers, and where it should begin.
func TestHintsAtLogZ(t *testing.T) {
	for name, c := range map[string]struct {
		env  job.Env
		says []string
		z    float64 // with which the update works
	}{
		"known":   {job.Env{Name: "ising", Params: map[string]any{"l1": 30, "l2": 12, "order": "left"}}, []string{"the exact log Z is 264.4 and loss.log_z_init 0", "set it to about 264.4"}, 264},
		"unknown": {job.Env{Name: "bitseq", Params: map[string]any{"n": 400, "k": 8, "order": "left"}}, []string{"over the batch", "and loss.log_z_init 0", "set it to about 27"}, 276},
	} {
		t.Run(name, func(t *testing.T) {
			spec := smallSpec()
			spec.Env, spec.Loss.Divergence = c.env, "forward_kl"
			u := newUpdater(t, spec)
			before := state(t, u)
			_, err := u.Step(sampled(t, u, 16), noRefusal(t))
			if !errors.Is(err, optim.ErrNonFinite) || !bytes.Equal(before, state(t, u)) {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			spec.Loss.LogZInit = c.z
			u = newUpdater(t, spec)
			mustStep(t, u, sampled(t, u, 16))
		})
	}
}

// TestNoHint: where log Z is near, or a few rewards are off, it is not what is wrong; and
// other objectives than trajectory balance go wrong in another way.
func TestNoHint(t *testing.T) {
	for name, c := range map[string]struct {
		set func(*job.Spec)
		off int // trajectories with a reward that nothing can learn
	}{
		"some rewards": {func(*job.Spec) {}, 4},
		"db":           {func(s *job.Spec) { s.Loss.Objective = job.DB }, 0},
		"subtb":        {func(s *job.Spec) { s.Loss.Objective = job.SubTB }, 0},
	} {
		spec := smallSpec()
		spec.Loss.Divergence = "forward_kl"
		c.set(spec)
		if c.off == 0 {
			spec.Env = job.Env{Name: "ising", Params: map[string]any{"l1": 6, "l2": 6, "sigma": 5.0}}
		} else {
			spec.Loss.Divergence = "neyman_chi2"
		}
		u := newUpdater(t, spec)
		batch := sampled(t, u, 16)
		for i := range batch[:c.off] {
			batch[i].LogReward = -1e5
		}
		_, err := u.Step(batch, noRefusal(t))
		if err == nil || strings.Contains(err.Error(), "log_z_init") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
