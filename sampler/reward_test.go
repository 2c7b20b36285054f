package sampler

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/policy"
)

// badReward is a grid whose second object of a batch has a broken reward.
type badReward struct {
	envs.Env
	value float64
}

func (b badReward) NewStates(n int) envs.States { return badStates{b.Env.NewStates(n), b.value} }

type badStates struct {
	envs.States
	value float64
}

func (s badStates) LogReward(rows []int32, out []float64) error {
	if err := s.States.LogReward(rows, out); err != nil {
		return err
	}
	out[1] = s.value
	return nil
}

// TestNonFiniteRewardsNameTheirObject and leave the sampler with an error.
func TestNonFiniteRewardsNameTheirObject(t *testing.T) {
	spec := job.Default()
	spec.Env = job.Env{Name: "hypergrid", Params: map[string]any{"dim": 2, "height": 4}}
	r, err := NewRoller(spec, 0)
	if err != nil {
		t.Fatal(err)
	}
	model, err := policy.FromSpec(spec.Policy, r.spec)
	if err != nil {
		t.Fatal(err)
	}
	params := make([]float32, model.Layout().Size())
	grid := r.env
	for _, value := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		r.env, r.rows = badReward{grid, value}, nil
		_, err := r.SampleN(4, params, 0, 1, nil)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(value)) || !strings.Contains(err.Error(), r.states.Text(1)) {
			t.Errorf("log-reward %v: got %v", value, err)
		}
	}
}
