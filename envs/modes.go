package envs

// Overlapping is a Moded whose modes may share objects: a string may be near several
// of the strings that a target is made of. Such an object counts for every one of
// its modes; Mode returns the one that it belongs to most.
type Overlapping interface {
	Moded
	// AppendModes appends all modes of a terminal row, ascending: Mode's among them,
	// and none where that is -1.
	AppendModes(dst []int, s States, row int) []int
}

// AppendModes appends the modes of a terminal row: all of an Overlapping, at most
// one of any other Moded.
func AppendModes(dst []int, m Moded, s States, row int) []int {
	if o, ok := m.(Overlapping); ok {
		return o.AppendModes(dst, s, row)
	}
	if mode := m.Mode(s, row); mode >= 0 {
		dst = append(dst, mode)
	}
	return dst
}
