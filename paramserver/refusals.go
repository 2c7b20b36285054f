package paramserver

import (
	"log/slog"
	"time"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// refusalLog tells of refused trajectories once in a while, with their number,
// so that a worker that sends nothing but nonsense cannot fill a disk. The
// first is told of at once.
type refusalLog struct {
	clock  clock.Clock
	logger *slog.Logger

	told    time.Time // when the last line was written
	untold  int       // refused since
	session string    // of the last of them,
	seq     uint64
	why     error
}

// refusalEvery is the shortest time between two lines.
const refusalEvery = time.Second

// add counts one refused trajectory.
func (l *refusalLog) add(t *wire.Trajectory, why error) {
	l.untold++
	l.session, l.seq, l.why = t.Session, t.Seq, why
	if now := l.clock.Now(); l.told.IsZero() || now.Sub(l.told) >= refusalEvery {
		l.told = now
		l.flush()
	}
}

// flush tells of those that no line has told of yet.
func (l *refusalLog) flush() {
	if l.untold == 0 {
		return
	}
	l.logger.Warn("trajectories refused", "count", l.untold, "session", l.session, "seq", l.seq, "error", l.why)
	l.untold = 0
}
