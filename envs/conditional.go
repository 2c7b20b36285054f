package envs

// Conditional is an Env whose objects each belong to one of some conditions, the
// first thing that is chosen. What a model does under each of them is a
// distribution of its own, to be compared with the target's.
type Conditional interface {
	Env
	// Conditions are their names.
	Conditions() []string
	// Condition is the number of the condition of a terminal row.
	Condition(s States, row int) int
}
