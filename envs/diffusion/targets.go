package diffusion

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// target is an unnormalised density on R^dim.
type target interface {
	dim() int
	logDensity(x []float32) float64
	// score appends the gradient of the log-density.
	score(dst, x []float32) []float32
	logZ() float64
	peak() float64 // the largest log-density
	draw(r *rand.Rand, x []float64)
	modes() int
	mode(x []float32) int
}

// targets makes each density in the dimensions of a Config; 0 is its own number.
var targets = map[string]func(c Config) (target, error){
	"gauss25": func(c Config) (target, error) { return grid25{}, plane(c) },
	"tilt25":  func(c Config) (target, error) { return tilted{tilt: c.Tilt}, plane(c) },
	"funnel": func(c Config) (target, error) {
		dim := c.Dim
		if dim == 0 {
			dim = 10
		}
		if dim < 2 || dim > maxDim {
			return nil, fielderr.New("dim", dim, fmt.Sprintf("from 2 to %d", maxDim))
		}
		return funnel(dim), nil
	},
	"manywell": func(c Config) (target, error) {
		dim := c.Dim
		if dim == 0 {
			dim = 32
		}
		if dim < 2 || dim > maxDim || dim%2 != 0 {
			return nil, fielderr.New("dim", dim, fmt.Sprintf("an even number from 2 to %d", maxDim))
		}
		return manywell{pairs: dim / 2, pair: logZWell() + math.Log(math.Sqrt(2*math.Pi))}, nil
	},
}

func plane(c Config) error {
	if c.Dim != 0 && c.Dim != 2 {
		return fielderr.New("dim", c.Dim, "2, or 0 for that; the 25 Gaussians are in the plane")
	}
	return nil
}

var logRoot2Pi = math.Log(2*math.Pi) / 2

// grid25 is the mixture of 25 Gaussians of equal weight, with centres in
// {-10, -5, 0, 5, 10}² and variance 0.3 a coordinate. It is normalised: log Z = 0.
type grid25 struct{}

const (
	gridSide     = 5
	gridSpacing  = 5.0
	gridVariance = 0.3
	// gridReach is how many standard deviations a mode reaches: nearly all of it
	// (all but 0.03 %), and less than half of the way to the next.
	gridReach = 4
)

func (grid25) dim() int   { return 2 }
func (grid25) modes() int { return gridSide * gridSide }

// logDensity uses that the mixture is a product of two, one a coordinate.
func (grid25) logDensity(x []float32) float64 {
	return gridSideLog(float64(x[0])) + gridSideLog(float64(x[1]))
}

func gridSideLog(x float64) float64 {
	near := gridCentre(gridNearest(x))
	top := -(x - near) * (x - near) / (2 * gridVariance)
	sum := 0.0
	for i := range gridSide {
		d := x - gridCentre(i)
		sum += math.Exp(-d*d/(2*gridVariance) - top)
	}
	return top + math.Log(sum/gridSide) - math.Log(gridVariance)/2 - logRoot2Pi
}

func (grid25) score(dst, x []float32) []float32 {
	for _, v := range x {
		dst = append(dst, float32(gridSideScore(float64(v))))
	}
	return dst
}

func gridSideScore(x float64) float64 {
	near := gridCentre(gridNearest(x))
	top := -(x - near) * (x - near) / (2 * gridVariance)
	sum, pull := 0.0, 0.0
	for i := range gridSide {
		d := x - gridCentre(i)
		w := math.Exp(-d*d/(2*gridVariance) - top)
		sum += w
		pull -= float64(w*d) / gridVariance
	}
	return pull / sum
}

func gridCentre(i int) float64 { return gridSpacing * float64(i-gridSide/2) }

func gridNearest(x float64) int {
	return int(math.Max(0, math.Min(gridSide-1, math.Round(x/gridSpacing)+gridSide/2)))
}

func (grid25) logZ() float64   { return 0 }
func (g grid25) peak() float64 { return g.logDensity([]float32{0, 0}) }

func (grid25) draw(r *rand.Rand, x []float64) {
	for j := range x {
		x[j] = gridCentre(r.IntN(gridSide)) + math.Sqrt(gridVariance)*r.NormFloat64()
	}
}

// mode is the nearest centre within gridReach standard deviations; the first
// coordinate is the lower digit.
func (grid25) mode(x []float32) int {
	i, j := gridNearest(float64(x[0])), gridNearest(float64(x[1]))
	a, b := float64(x[0])-gridCentre(i), float64(x[1])-gridCentre(j)
	if a*a+b*b > gridReach*gridReach*gridVariance {
		return -1
	}
	return j*gridSide + i
}

// tilted is a reward that is to tilt a prior trained on grid25: e^{tilt·k} for what
// is nearest to column k = −2 … 2 of the grid. It is no density by itself. Its
// states are those of grid25, with that gradient, for the prior looks at it; draws
// are from grid25 tilted.
type tilted struct {
	grid25
	tilt float64
}

func (t tilted) logDensity(x []float32) float64 {
	return t.tilt * float64(gridNearest(float64(x[0]))-gridSide/2)
}

// logZ is that of an ideal prior: log of the mean of e^{tilt·k}.
func (t tilted) logZ() float64 {
	sum := 0.0
	for k := range gridSide {
		sum += math.Exp(t.tilt*float64(k-gridSide/2)) / gridSide
	}
	return math.Log(sum)
}

func (t tilted) peak() float64 { return math.Abs(t.tilt) * float64(gridSide/2) }

func (t tilted) draw(r *rand.Rand, x []float64) {
	t.grid25.draw(r, x)
	left := r.Float64() * math.Exp(t.logZ()) * gridSide
	column := 0
	for ; column < gridSide-1; column++ {
		if left -= math.Exp(t.tilt * float64(column-gridSide/2)); left < 0 {
			break
		}
	}
	x[0] = gridCentre(column) + math.Sqrt(gridVariance)*r.NormFloat64()
}

// funnel is Neal's: x_1 ~ N(0, 9), and the others N(0, e^{x_1}) given it. It is
// normalised.
type funnel int

const funnelVariance = 9

func (f funnel) dim() int         { return int(f) }
func (funnel) logZ() float64      { return 0 }
func (funnel) modes() int         { return 0 }
func (funnel) mode([]float32) int { return -1 }

func (f funnel) logDensity(x []float32) float64 {
	v := float64(x[0])
	sum := -v*v/(2*funnelVariance) - math.Log(funnelVariance)/2 - logRoot2Pi
	squares := 0.0
	for _, y := range x[1:] {
		squares += float64(y) * float64(y)
	}
	rest := float64(len(x) - 1)
	sum -= rest * (v/2 + logRoot2Pi)
	if squares > 0 {
		sum -= squares * math.Exp(-v) / 2
	}
	return sum
}

func (funnel) score(dst, x []float32) []float32 {
	v, squares := float64(x[0]), 0.0
	for _, y := range x[1:] {
		squares += float64(y) * float64(y)
	}
	first := -v/funnelVariance - float64(len(x)-1)/2
	if squares > 0 {
		first += squares * math.Exp(-v) / 2
	}
	dst = append(dst, float32(first))
	for _, y := range x[1:] {
		g := 0.0
		if y != 0 {
			g = -float64(y) * math.Exp(-v)
		}
		dst = append(dst, float32(g))
	}
	return dst
}

// peak is where y = 0 and v = −9(d−1)/2.
func (f funnel) peak() float64 {
	rest := float64(f - 1)
	v := -funnelVariance * rest / 2
	return -v*v/(2*funnelVariance) - math.Log(funnelVariance)/2 - logRoot2Pi - rest*(v/2+logRoot2Pi)
}

func (f funnel) draw(r *rand.Rand, x []float64) {
	x[0] = math.Sqrt(funnelVariance) * r.NormFloat64()
	for j := 1; j < len(x); j++ {
		x[j] = math.Exp(x[0]/2) * r.NormFloat64()
	}
}
