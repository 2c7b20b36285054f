package fsm

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/shape"
)

// maxDepth is enough for a Commit: a list of segments, each with a list of ranges.
const maxDepth = 5

// checkShape fails with ErrMalformed for what must not reach the decoder.
func checkShape(b []byte) error {
	if err := shape.Check(b, maxDepth); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return nil
}
