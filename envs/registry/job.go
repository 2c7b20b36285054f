package registry

import (
	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/plugin"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
)

// OfJob builds what a job learns on: its environment, with the rewards of its
// plugin if it names one. Faults are *fielderr.Error with paths inside the job.
func OfJob(spec *job.Spec) (envs.Env, error) {
	env, err := New(spec.Env.Name, spec.Env.Params)
	if err != nil {
		return nil, fielderr.Prefix("env", err)
	}
	if spec.Reward != nil {
		env = plugin.Reward(env, spec.Reward)
	}
	return env, nil
}
