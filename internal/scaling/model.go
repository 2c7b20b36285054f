package scaling

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/optimize"

	"github.com/driftmesh/driftmesh/internal/rng"
)

// Cell is one measurement: the rate, trajectories per second, of so many workers
// whose reward sleeps for Delay seconds.
type Cell struct {
	Workers int     `json:"workers"`
	Delay   float64 `json:"delay_seconds"`
	Rate    float64 `json:"rate"`
}

// Model is a closed queueing network: each worker thinks for Delay + Own, then
// its trajectory queues for a station that all share and that takes Demand, and
// then the worker thinks again. Mean value analysis gives its rate exactly:
// linear in the workers at first, 1/Demand at last, and in between what queueing
// makes of it. The demand grows by Growth of itself with each worker, for sessions,
// credits and parameters cost something too, however little each of them does.
type Model struct {
	Own    float64 `json:"own_seconds"`    // of a worker per trajectory, besides the reward's sleep
	Demand float64 `json:"demand_seconds"` // of what is shared, per trajectory
	Growth float64 `json:"growth"`         // of Demand, per worker
}

// Rate is the model's rate of so many workers with a delay in seconds.
func (m Model) Rate(workers int, delay float64) float64 {
	demand := m.Demand * (1 + m.Growth*float64(workers))
	queue, rate := 0.0, 0.0
	for n := 1; n <= workers; n++ {
		stay := demand * (1 + queue)
		rate = float64(n) / (delay + m.Own + stay)
		queue = rate * stay
	}
	return rate
}

// Fit is a model fitted to cells, with what is needed for intervals.
type Fit struct {
	Model     Model
	Residuals []float64 // log(measured / modelled), by cell
	others    []Model   // fitted to resampled residuals
}

// ErrTooFew: three parameters want more than three cells.
var ErrTooFew = errors.New("too few measurements to fit a model to")

const resamples = 400

// FitModel fits a model by least squares of the logarithms of the rates, and
// again to bootstrapped residuals, whose draws the seed decides.
func FitModel(cells []Cell, seed uint64) (*Fit, error) {
	if len(cells) < 4 {
		return nil, fmt.Errorf("%w: %d, want at least 4", ErrTooFew, len(cells))
	}
	slowest := 0.0
	logs := make([]float64, len(cells))
	for i, c := range cells {
		if c.Workers < 1 || !(c.Delay >= 0) || !(c.Rate > 0) || math.IsInf(c.Rate, 0) {
			return nil, fmt.Errorf("measurement %d: %+v is no rate of workers", i, c)
		}
		logs[i] = math.Log(c.Rate)
		slowest = max(slowest, c.Rate)
	}
	begin := Model{Own: 1e-3, Demand: 1 / slowest, Growth: 1e-3}
	model, err := begin.fit(cells, logs)
	if err != nil {
		return nil, err
	}
	f := &Fit{Model: model, Residuals: make([]float64, len(cells))}
	modelled := make([]float64, len(cells))
	for i, c := range cells {
		modelled[i] = math.Log(model.Rate(c.Workers, c.Delay))
		f.Residuals[i] = logs[i] - modelled[i]
	}
	r := rng.New(seed, rng.Bootstrap)
	again := make([]float64, len(cells))
	for range resamples {
		for i := range again {
			again[i] = modelled[i] + f.draw(r.IntN(len(cells)))
		}
		other, err := model.fit(cells, again)
		if err != nil {
			return nil, err
		}
		f.others = append(f.others, other)
	}
	return f, nil
}

// draw is a residual, widened by what the three parameters took of its variance.
func (f *Fit) draw(i int) float64 {
	n := float64(len(f.Residuals))
	return f.Residuals[i] * math.Sqrt(n/max(1, n-3))
}

// bounds of the parameters' logarithms: a nanosecond to a minute, and no growth
// that a measurement could see to one that stops everything.
var (
	lower = [3]float64{math.Log(1e-9), math.Log(1e-9), math.Log(1e-9)}
	upper = [3]float64{math.Log(60), math.Log(60), math.Log(1)}
)

// fit finds the model whose rates' logarithms are nearest to logs, beginning at m.
func (m Model) fit(cells []Cell, logs []float64) (Model, error) {
	of := func(x []float64) Model { return Model{math.Exp(x[0]), math.Exp(x[1]), math.Exp(x[2])} }
	problem := optimize.Problem{Func: func(x []float64) float64 {
		sum := 0.0
		for i := range x {
			out := max(0, lower[i]-x[i], x[i]-upper[i])
			sum += out * out
		}
		model := of(x)
		for i, c := range cells {
			d := math.Log(model.Rate(c.Workers, c.Delay)) - logs[i]
			sum += d * d
		}
		return sum
	}}
	begin := []float64{math.Log(m.Own), math.Log(m.Demand), math.Log(m.Growth)}
	for i := range begin {
		begin[i] = min(max(begin[i], lower[i]), upper[i])
	}
	res, err := optimize.Minimize(problem, begin, &optimize.Settings{
		Converger: &optimize.FunctionConverge{Absolute: 1e-9, Relative: 1e-7, Iterations: 50}, MajorIterations: 2000,
	}, &optimize.NelderMead{SimplexSize: 0.5})
	if err != nil {
		return Model{}, fmt.Errorf("fit: %w", err)
	}
	return of(res.X), nil
}

// Predict is the rate of a measurement that was not made, with an interval in
// which 95 of 100 would fall if the model holds: it has the parameters'
// uncertainty and a measurement's own.
func (f *Fit) Predict(workers int, delay float64) Estimate {
	rates := make([]float64, 0, len(f.others))
	for i, m := range f.others {
		rates = append(rates, m.Rate(workers, delay)*math.Exp(f.draw(i%len(f.Residuals))))
	}
	slices.Sort(rates)
	at := func(q float64) float64 { return rates[int(math.Round(q*float64(len(rates)-1)))] }
	return Estimate{f.Model.Rate(workers, delay), at((1 - confidence) / 2), at(1 - (1-confidence)/2)}
}

// Error is the typical relative error of the model at the cells: the root mean
// square of the residuals.
func (f *Fit) Error() float64 {
	sum := 0.0
	for _, r := range f.Residuals {
		sum += r * r
	}
	return math.Sqrt(sum / float64(len(f.Residuals)))
}
