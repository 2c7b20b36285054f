// Package registry knows every built-in environment by name. It is a table, not
// a hook: nothing registers itself from an init function, so what a binary can
// learn on is what this file imports.
package registry

import (
	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/bitseq"
	"github.com/driftmesh/driftmesh/envs/conditional"
	"github.com/driftmesh/driftmesh/envs/diffusion"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/envs/ising"
	"github.com/driftmesh/driftmesh/envs/mixture"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/envs/plugin"
	"github.com/driftmesh/driftmesh/envs/sequence"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Info describes an environment to people.
type Info struct {
	Name    string        `json:"name"`
	Summary string        `json:"summary"`
	Params  []params.Info `json:"params"`
}

// entry is one row of the table.
type entry struct {
	name, summary string
	// describe lists the parameters with their defaults.
	describe func() []params.Info
	// open decodes the parameters and, if they are right, builds the
	// environment; it returns all parameters as resolved with the defaults.
	open func(given map[string]any) (envs.Env, map[string]any, error)
}

// table lists the environments in the order in which they are shown.
func table() []entry {
	return []entry{
		define("hypergrid",
			"walk up a D-dimensional grid and stop; the reward has one bump in every corner",
			hypergrid.Default, hypergrid.Bind, hypergrid.New),
		define("hypergrid_conditional",
			"choose a temperature, then walk up a hypergrid whose reward is raised to it",
			conditional.Default, conditional.Bind, conditional.New),
		define("bitseq",
			"write a string of bits word by word; the reward falls with the distance to the nearest of some hidden strings",
			bitseq.Default, bitseq.Bind, openBitseq),
		define("sequence",
			"write a sequence letter by letter; the reward stands in a table (a CSV or Parquet file, or the built-in tfbind8)",
			sequence.Default, sequence.Bind, openSequence),
		define("ising",
			"set the spins of a torus one after another; neighbours attract each other (log R = 2 sigma per bond)",
			ising.Default, ising.Bind, ising.New),
		define("mixture",
			"one step to a cell of a 1-D or 2-D grid; the reward is a sum of Gaussian humps",
			mixture.Default, mixture.Bind, mixture.New),
		define("categorical",
			"one step to one of some objects with given rewards",
			mixture.DefaultCategorical, mixture.BindCategorical, mixture.NewCategorical),
		define(diffusion.Name,
			"walk from the origin through R^d in Gaussian steps; densities with known log Z (continuous actions)",
			diffusion.Default, diffusion.Bind, diffusion.New),
		define(plugin.Name,
			"an environment in another program, such as a class in Python",
			func() plugin.Config { return plugin.Config{} }, plugin.Bind, plugin.New),
	}
}

// define makes a row from an environment's configuration type C.
func define[C any](name, summary string, defaults func() C, bind func(*C) []params.Binding, build func(C) (envs.Env, error)) entry {
	return entry{
		name: name, summary: summary,
		describe: func() []params.Info {
			c := defaults()
			return params.Describe(bind(&c))
		},
		open: func(given map[string]any) (envs.Env, map[string]any, error) {
			c := defaults()
			bindings := bind(&c)
			if err := params.Decode(bindings, given); err != nil {
				return nil, nil, fielderr.Prefix("params", err)
			}
			env, err := build(c)
			if err != nil {
				return nil, nil, fielderr.Prefix("params", err)
			}
			return env, params.Values(bindings), nil
		},
	}
}

// New builds the environment of that name. Parameters not given take their
// defaults. Faults are *fielderr.Error (joined when there are several) with the
// paths "name" and "params.<parameter>".
func New(name string, given map[string]any) (envs.Env, error) {
	env, _, err := Open(name, given)
	return env, err
}

// Open is New that also returns the parameters in full: the given ones in their
// proper types and the defaults of the others.
func Open(name string, given map[string]any) (envs.Env, map[string]any, error) {
	var names []string
	for _, e := range table() {
		if e.name == name {
			return e.open(given)
		}
		names = append(names, e.name)
	}
	var value any
	if name != "" {
		value = name
	}
	return nil, nil, fielderr.New("name", value, params.OneOf(name, names))
}

// List describes every environment.
func List() []Info {
	var out []Info
	for _, e := range table() {
		out = append(out, Info{Name: e.name, Summary: e.summary, Params: e.describe()})
	}
	return out
}
