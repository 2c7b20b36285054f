package paramserver

import (
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/losses"
)

// maxCarriedDeltas is the most residuals of an open stretch that a Commit holds:
// 32 KiB. A row that is cut after a resume within a longer stretch sums up only
// what follows it.
const maxCarriedDeltas = 4096

// carriedStretch is a Recorder's open stretch, so that the row that ends it is
// the same whether its learner was replaced in between or not.
type carriedStretch struct {
	Updates      int                        `msgpack:"u"`
	Trajectories int                        `msgpack:"t"`
	Counts       [3]uint64                  `msgpack:"n"` // refused, replayed, downweighted
	Sums         [6]float64                 `msgpack:"s"` // loss, grad, c, tail, ess, kl
	Weighed      int                        `msgpack:"w"`
	Lags         []byte                     `msgpack:"l"` // as JSON
	Weights      losses.ImportanceSumsState `msgpack:"i"`
	OffPolicy    bool                       `msgpack:"o"`
	ELBO         float64                    `msgpack:"e"`
	Deltas       []float64                  `msgpack:"d"`
}

// Carry makes the open stretch of a Recorder part of the state: Marshal writes
// it, and what the restored state holds of one is the Recorder's now. Rows must
// be cut at versions, not at times, and before the state of their version is
// marshalled; so do the rows of a local run.
func (u *Updater) Carry(r *Recorder) error {
	u.recorder = r
	return r.restore(u.carried)
}

func (r *Recorder) state() ([]byte, error) {
	if r.Empty() || len(r.deltas.values) > maxCarriedDeltas {
		return nil, nil
	}
	lags, err := r.lags.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return msgpack.Marshal(&carriedStretch{
		Updates: r.updates, Trajectories: r.trajectories, Counts: [3]uint64{r.refused, r.replayed, r.downweighted},
		Sums: [6]float64{r.loss, r.grad, r.c, r.tail, r.ess, r.kl}, Weighed: r.weighed,
		Lags: lags, Weights: r.weights.State(), OffPolicy: r.offPolicy, ELBO: r.elbo, Deltas: r.deltas.values,
	})
}

// restore begins with the stretch that state wrote; with an empty one without.
func (r *Recorder) restore(data []byte) error {
	r.stretch = stretch{}
	r.deltas.reset()
	if len(data) == 0 {
		return nil
	}
	var c carriedStretch
	if err := msgpack.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("%w: stretch of metrics: %w", ErrState, err)
	}
	if len(c.Deltas) > maxCarriedDeltas || c.Updates < 0 || c.Trajectories < 0 || c.Weighed < 0 {
		return fmt.Errorf("%w: stretch of metrics of %d updates and %d residuals", ErrState, c.Updates, len(c.Deltas))
	}
	var lags runs.LagHistogram
	if err := lags.UnmarshalJSON(c.Lags); err != nil {
		return fmt.Errorf("%w: stretch of metrics: %w", ErrState, err)
	}
	r.stretch = stretch{
		updates: c.Updates, trajectories: c.Trajectories, refused: c.Counts[0], replayed: c.Counts[1], downweighted: c.Counts[2],
		loss: c.Sums[0], grad: c.Sums[1], c: c.Sums[2], tail: c.Sums[3], ess: c.Sums[4], kl: c.Sums[5], weighed: c.Weighed,
		lags: lags, offPolicy: c.OffPolicy, elbo: c.ELBO,
	}
	r.weights.Restore(c.Weights)
	for _, d := range c.Deltas {
		r.deltas.add(d)
	}
	return nil
}
