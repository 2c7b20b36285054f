package envs

// Marks say by what the distance of two objects of an Env is measured: sets of
// numbers in [0, Features), ascending. Where Positions is not 0 they are positions ×
// tokens first, as in Spec. Features is 0 where objects have none.
type Marks struct {
	Positions, Vocabulary, Features int
	// Append appends those of a terminal row of the Env's States.
	Append func(dst []int32, s States, row int) []int32
}

// Marked is an Env whose objects cannot be told apart by the features that policies
// read, and which has other marks for them.
type Marked interface {
	Env
	Marks() Marks
}

// MarksOf returns an environment's marks: its own, or else the features that policies read.
func MarksOf(env Env) Marks {
	if m, ok := env.(Marked); ok {
		return m.Marks()
	}
	spec := env.Spec()
	return Marks{
		Positions: spec.Positions, Vocabulary: spec.Vocabulary, Features: spec.Features,
		Append: func(dst []int32, s States, row int) []int32 { return s.AppendFeatures(dst, row) },
	}
}
