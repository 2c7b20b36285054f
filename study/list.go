package study

import "github.com/driftmesh/driftmesh/internal/experiment"

// Computations lists all, by the names that experiments give them.
func Computations(train Trainer) map[string]experiment.Computation {
	return map[string]experiment.Computation{
		"restricted_on_policy":  OnPolicy(train),
		"restricted_behaviours": Behaviours(train),
		"gradients":             Gradients(),
	}
}
