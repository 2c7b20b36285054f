package fsm

// Segment returns one listed archive segment of a job, as Segments does.
func (s *State) Segment(job, id string) (Segment, bool) {
	if e, ok := s.jobs[job]; ok {
		for _, g := range e.segments {
			if g.ID == id {
				return g, true
			}
		}
	}
	return Segment{}, false
}
