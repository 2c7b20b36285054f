package fit

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/optimize"

	"github.com/driftmesh/driftmesh/losses"
)

// Fit is the result of a minimisation.
type Fit struct {
	Theta []float64 // means, then logarithms of the standard deviations
	Value float64   // of what was minimised
	C     float64   // the normaliser at the minimum; log Z where it was given
	// Others are further local minima, best first: where a training that starts
	// near one of them may stay.
	Others []Fit
}

// Mean and Std are the parts of Theta.
func (f Fit) Mean() []float64 { return f.Theta[:len(f.Theta)/2] }

// Std are the standard deviations.
func (f Fit) Std() []float64 {
	out := slices.Clone(f.Theta[len(f.Theta)/2:])
	for i := range out {
		out[i] = math.Exp(out[i])
	}
	return out
}

// MinDivergence is argmin_θ D_f(p‖q_θ).
func (p *Problem) MinDivergence(d losses.Divergence) (Fit, error) {
	f, err := p.minimise(func(theta []float64) float64 { return p.Divergence(d, theta) })
	if err != nil {
		return Fit{}, fmt.Errorf("%s: %w", d.Name(), err)
	}
	f.C = p.logZ
	return f, nil
}

// Normaliser is where the c of a loss comes from.
type Normaliser int

const (
	// Exact is c = log Z.
	Exact Normaliser = iota
	// Free is c = argmin_c E_μ[g(δ + c)]: where a learned log Z comes to rest, and
	// what batch_optimal fits to a batch without end. So both have one minimiser.
	Free
)

// MinLoss is argmin_θ E_μ[g(δ)] under a behaviour that does not depend on θ,
// given as the probability of every cell. With Free it minimises over c too.
func (p *Problem) MinLoss(d losses.Divergence, mu []float64, n Normaliser) (Fit, error) {
	l, err := p.newLoss(d, n)
	if err != nil {
		return Fit{}, err
	}
	logQ := make([]float64, len(p.logR))
	f, err := p.minimise(func(theta []float64) float64 {
		p.LogProb(theta, logQ)
		v, err := l.at(logQ, mu)
		if err != nil {
			return math.Inf(1)
		}
		return v
	})
	if err != nil {
		return Fit{}, fmt.Errorf("%s: %w", d.Name(), err)
	}
	p.LogProb(f.Theta, logQ)
	if _, err = l.at(logQ, mu); err != nil {
		return Fit{}, fmt.Errorf("%s: %w", d.Name(), err)
	}
	f.C = l.out.C[0]
	return f, nil
}

// loss evaluates E_μ[g(δ)] with the objective that trains: one trajectory for
// each cell that μ reaches, weighted with its probability.
type loss struct {
	p    *Problem
	tb   *losses.TB
	cell []int // of each trajectory
	in   losses.Input
	out  losses.Output
}

func (p *Problem) newLoss(d losses.Divergence, n Normaliser) (*loss, error) {
	mode := losses.Exact
	if n == Free {
		mode = losses.BatchOptimal
	}
	tb, err := losses.NewTB(losses.Config{Member: losses.Fixed(d), Normaliser: mode, Backward: losses.Uniform})
	if err != nil {
		return nil, err
	}
	return &loss{p: p, tb: tb}, nil
}

// at returns the loss, and leaves μ_i g'(δ_i) of the cells in cell in out.W.
func (l *loss) at(logQ, mu []float64) (float64, error) {
	in := &l.in
	l.cell, in.LogPF, in.LogReward, in.Weights = l.cell[:0], in.LogPF[:0], in.LogReward[:0], in.Weights[:0]
	for i, m := range mu {
		if m <= 0 {
			continue
		}
		l.cell = append(l.cell, i)
		in.LogPF, in.LogReward, in.Weights = append(in.LogPF, logQ[i]), append(in.LogReward, l.p.logR[i]), append(in.Weights, m)
	}
	in.LogPB = slices.Grow(in.LogPB[:0], len(l.cell))[:len(l.cell)]
	in.LogZ = l.p.logZ
	if err := l.tb.Evaluate(0, in, &l.out); err != nil {
		return 0, err
	}
	if v := l.out.Loss; v-v != 0 {
		return 0, losses.ErrNonFinite
	}
	return l.out.Loss, nil
}

// How fine the first look at the parameters is, by dimension, and how many of
// its local minima are followed.
const (
	coarseMeans, coarseStds = 33, 13
	planeMeans, planeStds   = 9, 5
	followed                = 8
)

// minimise looks at a grid of parameters, follows the best of its local minima
// by Nelder and Mead's method, which needs no derivative, and starts that again
// where it ends, until nothing is gained.
func (p *Problem) minimise(f func(theta []float64) float64) (Fit, error) {
	starts := p.starts(f)
	var ends []Fit
	for _, s := range starts {
		end, ok := descend(f, s, p.scale())
		if !ok {
			continue
		}
		if !slices.ContainsFunc(ends, func(e Fit) bool { return p.near(e.Theta, end.Theta) }) {
			ends = append(ends, end)
		}
	}
	if len(ends) == 0 {
		return Fit{}, ErrNoFit
	}
	slices.SortStableFunc(ends, func(a, b Fit) int {
		if a.Value < b.Value {
			return -1
		} else if a.Value > b.Value {
			return 1
		}
		return 0
	})
	best := ends[0]
	best.Others = ends[1:]
	return best, nil
}

// near says whether two fits are one: within a thousandth of a cell or of a
// standard deviation.
func (p *Problem) near(a, b []float64) bool {
	for d := range p.dim {
		if math.Abs(a[d]-b[d]) > 1e-3*p.step[d] || math.Abs(a[p.dim+d]-b[p.dim+d]) > 1e-3 {
			return false
		}
	}
	return true
}

// scale is the size of the first simplex in each parameter.
func (p *Problem) scale() []float64 {
	out := make([]float64, 2*p.dim)
	for d := range p.dim {
		out[d], out[p.dim+d] = (p.high[d]-p.low[d])/50, 0.1
	}
	return out
}

// starts are the local minima of f on a coarse grid, the lowest first.
func (p *Problem) starts(f func(theta []float64) float64) [][]float64 {
	means, stds := coarseMeans, coarseStds
	if p.dim > 1 {
		means, stds = planeMeans, planeStds
	}
	sides := make([]int, 2*p.dim)
	total := 1
	for d := range sides {
		if sides[d] = means; d >= p.dim {
			sides[d] = stds
		}
		total *= sides[d]
	}
	theta := func(index int) []float64 {
		out := make([]float64, len(sides))
		for k, side := range sides {
			share := float64(index%side) / float64(side-1)
			index /= side
			if d := k % p.dim; k < p.dim {
				out[k] = p.low[d] + share*(p.high[d]-p.low[d])
			} else { // from less than a cell to the whole range
				lo, hi := math.Log(p.step[d]/2), math.Log(p.high[d]-p.low[d])
				out[k] = lo + share*(hi-lo)
			}
		}
		return out
	}
	values := make([]float64, total)
	for i := range values {
		values[i] = f(theta(i))
	}
	var minima []int
	for i, v := range values {
		lowest := !math.IsInf(v, 1)
		for unit, k := 1, 0; k < len(sides) && lowest; unit, k = unit*sides[k], k+1 {
			at := i / unit % sides[k]
			lowest = !(at > 0 && values[i-unit] < v) && !(at < sides[k]-1 && values[i+unit] < v)
		}
		if lowest {
			minima = append(minima, i)
		}
	}
	slices.SortStableFunc(minima, func(a, b int) int {
		if values[a] < values[b] {
			return -1
		} else if values[a] > values[b] {
			return 1
		}
		return 0
	})
	var out [][]float64
	for _, i := range minima[:min(len(minima), followed)] {
		out = append(out, theta(i))
	}
	return out
}

func descend(f func([]float64) float64, start, scale []float64) (Fit, bool) {
	at, value := slices.Clone(start), f(start)
	size := 1.0
	for range 12 {
		simplex := [][]float64{slices.Clone(at)}
		values := []float64{value}
		for k := range at {
			x := slices.Clone(at)
			x[k] += size * scale[k]
			v := f(x)
			if math.IsInf(v, 1) { // the other way
				x[k] -= 2 * size * scale[k]
				v = f(x)
			}
			simplex, values = append(simplex, x), append(values, v)
		}
		result, err := optimize.Minimize(optimize.Problem{Func: f}, at,
			&optimize.Settings{MajorIterations: 400, Converger: &optimize.FunctionConverge{Absolute: 1e-15, Relative: 1e-14, Iterations: 60}},
			&optimize.NelderMead{InitialVertices: simplex, InitialValues: values})
		if err != nil || result == nil {
			break
		}
		gained := value - result.F
		if result.F <= value {
			at, value = result.X, result.F
		}
		if gained <= 1e-13*math.Abs(value) && size < 0.1 {
			break
		}
		size = max(size/4, 1e-4)
	}
	return Fit{Theta: at, Value: value}, !math.IsInf(value, 1) && !math.IsNaN(value)
}
