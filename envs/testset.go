package envs

// What follows are things that an environment may know and evaluation can use.

// Tested is an Env with a test set: objects on which a model's log-probability
// is compared with the log-reward.
type Tested interface {
	Env
	NumTests() int
	// LoadTest makes the row the terminal state of test object i.
	LoadTest(s States, row, i int)
}

// Located is an Env whose objects are points of a space.
type Located interface {
	Env
	PointDim() int
	// Point writes the coordinates of a terminal row (len PointDim).
	Point(s States, row int, out []float64)
}
