package paramserver

import (
	"fmt"
	"strconv"
	"time"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/optim"
	"github.com/driftmesh/driftmesh/policy"
)

// restOfState is kept for what a state has besides vectors: counters, the best
// objects, modes, a carried replay buffer, an open stretch of metrics.
const restOfState = 8 << 20

// vectorBytes is what the parameters and the optimiser's moments take.
func vectorBytes(spec *job.Spec, layout policy.Layout) int64 {
	return int64(layout.Size()) * 4 * int64(1+optim.FromSpec(spec.Optimiser).Moments())
}

// checkSize refuses a job whose state would never be committed, with the
// arithmetic.
func checkSize(spec *job.Spec, layout policy.Layout) error {
	if vectorBytes(spec, layout)+restOfState <= fsm.MaxState {
		return nil
	}
	vectors, what := 1+optim.FromSpec(spec.Optimiser).Moments(), ""
	switch vectors {
	case 2:
		what = " × 2 (parameters and the momentum of sgd)"
	case 3:
		what = " × 3 (parameters and two moments of adam)"
	}
	const mib = 1 << 20
	path, value := spec.Policy.Size()
	return fielderr.New(path, value, fmt.Sprintf(
		"a smaller network: %s parameters × 4 bytes%s = %.1f MiB; a state may have %d MiB, of which %d are for all else",
		thousands(layout.Size()), what, float64(vectorBytes(spec, layout))/mib, fsm.MaxState/mib, restOfState/mib))
}

// thousands writes 23068672 as 23 068 672.
func thousands(n int) string {
	digits := strconv.Itoa(n)
	out := ""
	for len(digits) > 3 {
		out = " " + digits[len(digits)-3:] + out
		digits = digits[:len(digits)-3]
	}
	return digits + out
}

// CommitTime is how long the bytes of a state may be on their way through the
// log of a busy cluster, at 16 MiB a second.
func (u *Updater) CommitTime() time.Duration {
	return time.Duration(vectorBytes(u.Spec, u.layout)) * time.Second / (16 << 20)
}
