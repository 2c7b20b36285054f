package policy

// sequences say where the tokens of a pass's states lie, one state's after the
// other's; the readout is the first token of each.
type sequences struct {
	first  []int // state i has tokens first[i]..first[i+1]-1
	square []int // sum of the squares of the lengths of the states before it
	// The rows of the table of embeddings that a token begins as the sum of:
	// index[offset[r]:offset[r+1]].
	offset, index []int32
}

func (q *sequences) reset() {
	q.first, q.square = append(q.first[:0], 0), append(q.square[:0], 0)
	q.offset, q.index = append(q.offset[:0], 0), q.index[:0]
}

// extend appends states from.. of s.
func (q *sequences) extend(m *Transformer, s *States, from int) {
	pairs, vocabulary := int32(m.seq.Positions*m.seq.Vocabulary), int32(m.seq.Vocabulary)
	for i := from; i < s.N; i++ {
		features := s.FeatIndex[s.FeatOffset[i]:s.FeatOffset[i+1]]
		q.index = append(q.index, m.readoutRow())
		for _, f := range features {
			if f >= pairs {
				q.index = append(q.index, m.conditionRow(f-pairs))
			}
		}
		q.offset = append(q.offset, int32(len(q.index)))
		length := 1
		for _, f := range features {
			if f < pairs {
				q.index = append(q.index, m.tokenRow(f%vocabulary), m.positionRow(f/vocabulary))
				q.offset = append(q.offset, int32(len(q.index)))
				length++
			}
		}
		n := len(q.first) - 1
		q.first = append(q.first, q.first[n]+length)
		q.square = append(q.square, q.square[n]+length*length)
	}
}

// tokens is how many states from..to-1 have.
func (q *sequences) tokens(from, to int) int { return q.first[to] - q.first[from] }

// squares is the sum of the squares of their lengths.
func (q *sequences) squares(from, to int) int { return q.square[to] - q.square[from] }

// chunk is the end of the chunk that begins with state from: as many states as
// have tokenChunk tokens, one at least, before state end.
func (q *sequences) chunk(from, end int) int {
	to := from + 1
	for to < end && q.tokens(from, to+1) <= tokenChunk {
		to++
	}
	return to
}

// cut appends the borders of parts of states from..to-1 that have block tokens
// each, or as many more as complete a state.
func (q *sequences) cut(cuts []int, from, to, block int) []int {
	cuts = append(cuts, from)
	for i := from + 1; i < to; i++ {
		if q.tokens(cuts[len(cuts)-1], i) >= block {
			cuts = append(cuts, i)
		}
	}
	return append(cuts, to)
}
