package paramserver

import (
	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/metrics"
)

// tally describes the objects that an evaluation samples, one at a time.
type tally struct {
	e      *Estimator
	n      int
	top    *metrics.Top // nil: not asked for
	counts []int64      // of the objects; nil where they are not listed
	moded  envs.Moded   // nil without modes
	hit    *metrics.Modes
	of     []int     // modes of an object
	shares []float64 // samples in each mode, and at the end their share; nil for too many modes
	points []float64 // of the first samples; nil where objects are no points
}

func (e *Estimator) newTally(n int) *tally {
	t := &tally{e: e, n: n}
	if k := e.spec.Eval.TopK; k > 0 {
		t.top = metrics.NewTop(e.env, min(k, n))
	}
	if e.exact != nil {
		t.counts = make([]int64, len(e.exact.LogTarget()))
	}
	if m, ok := e.env.(envs.Moded); ok && m.NumModes() > 0 {
		t.moded, t.hit = m, metrics.NewModes(m.NumModes())
		if m.NumModes() <= maxShares {
			t.shares = make([]float64, m.NumModes())
		}
	}
	return t
}

// add notes the object of a terminal row.
func (t *tally) add(s envs.States, row int, logReward float64) {
	if t.top != nil {
		t.top.Add(s, row, logReward)
	}
	if t.counts != nil {
		t.counts[t.e.exact.Object(s, row)]++
	}
	if t.moded != nil {
		t.hit.AddObject(t.moded, s, row)
	}
	if t.shares != nil {
		t.share(s, row)
	}
	if where, ok := t.e.transportable(); ok && len(t.points) < transported*where.PointDim() {
		at := len(t.points)
		t.points = append(t.points, make([]float64, where.PointDim())...)
		where.Point(s, row, t.points[at:])
	}
}

func (t *tally) share(s envs.States, row int) {
	t.of = envs.AppendModes(t.of[:0], t.moded, s, row)
	for _, mode := range t.of {
		t.shares[mode]++
	}
}

// report fills in what the samples say.
func (t *tally) report(version uint64, out *Estimates) (err error) {
	if t.top != nil {
		top := t.top.Report()
		out.TopK = &top
	}
	if t.moded != nil {
		for i := range t.shares {
			t.shares[i] /= float64(t.n)
		}
		out.Modes = &SampledModes{Hit: t.hit.Found(), Total: t.hit.Len(), Shares: t.shares}
	}
	if t.counts != nil {
		counted, err := metrics.CompareCounts(t.e.exact.LogTarget(), t.counts, replicates, rng.New(t.e.spec.Seed, rng.Bootstrap, version))
		if err != nil {
			return err
		}
		out.Counted = &counted
	}
	if len(t.points) > 0 {
		out.Sinkhorn, err = t.e.transport(version, t.points)
	}
	return err
}

// located is an environment of points that can draw from its target.
type located interface {
	envs.Located
	envs.Drawn
}

// transportable returns the environment if samples can be held against draws of
// the target. Draws are of R/Z: another exponent has none, nor has a tuned prior.
func (e *Estimator) transportable() (located, bool) {
	where, ok := e.env.(located)
	return where, ok && e.beta == 1 && e.prior == nil
}

// transport is the distance between samples and as many draws of the target, and that
// between those and another set of draws.
func (e *Estimator) transport(version uint64, points []float64) (*Transport, error) {
	where, _ := e.transportable()
	dim := where.PointDim()
	n := len(points) / dim
	s, rows := e.env.NewStates(n), make([]int32, n)
	for i := range rows {
		rows[i] = int32(i)
	}
	r := rng.New(e.spec.Seed, rng.Evaluate, version*streams+transportStream)
	draw := func() []float64 {
		where.Draw(r, s, rows)
		target := make([]float64, len(points))
		for i := range rows {
			where.Point(s, i, target[i*dim:(i+1)*dim])
		}
		return target
	}
	target, options := draw(), metrics.SinkhornOptions{Epsilon: 0.01, Relative: true, Tolerance: 1e-3, MaxSteps: 500}
	d, err := metrics.SinkhornDistance(points, target, dim, options)
	if err != nil {
		return nil, err
	}
	floor, err := metrics.SinkhornDistance(draw(), target, dim, options)
	return &Transport{Sinkhorn: d, Floor: runs.Float(floor.Cost)}, err
}
