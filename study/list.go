package study

// Computations lists all, by the names that experiments give them.
func Computations(train Trainer) map[string]Computation {
	return map[string]Computation{
		"restricted_on_policy":  OnPolicy(train),
		"restricted_behaviours": Behaviours(train),
		"gradients":             Gradients(),
	}
}
