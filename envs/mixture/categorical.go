package mixture

import (
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// CategoricalConfig is a choice between objects with given rewards.
type CategoricalConfig struct {
	LogRewards []float64
}

// DefaultCategorical has four objects.
func DefaultCategorical() CategoricalConfig {
	return CategoricalConfig{LogRewards: []float64{0, 1, -1, 0.5}}
}

// BindCategorical names the fields of c as parameters.
func BindCategorical(c *CategoricalConfig) []params.Binding {
	return []params.Binding{params.Floats("log_rewards", &c.LogRewards, "log R of every object")}
}

// NewCategorical returns the environment with one object for each log-reward:
// an envs.Enumerable and envs.Described.
func NewCategorical(c CategoricalConfig) (envs.Env, error) {
	if n := len(c.LogRewards); n < 2 {
		return nil, fielderr.New("log_rewards", c.LogRewards, "at least 2 numbers")
	}
	for i, v := range c.LogRewards {
		if !finite(v) {
			return nil, fielderr.New(fmt.Sprintf("log_rewards[%d]", i), v, "a finite number")
		}
	}
	t := newTable("categorical", len(c.LogRewards), 1)
	t.logR = append(t.logR, c.LogRewards...)
	return &t, nil
}
