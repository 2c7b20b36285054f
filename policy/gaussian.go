package policy

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/kernels"
)

// harmonics is how many frequencies of the time a Gaussian sees, as a sine and a
// cosine each: sin(πkt), cos(πkt), k = 1..harmonics.
const harmonics = 16

// stdRange bounds a learned standard deviation: it is within e^±stdRange of the
// reference's (log_var_range = 4 in Sendera et al. 2024).
const stdRange = 2

// GaussianConfig describes the forward policy of a diffusion sampler.
type GaussianConfig struct {
	Hidden     []int  // widths of the hidden layers, at least one
	Activation string // relu, leaky_relu (slope 0.01) or tanh
	// LearnStd lets the network also say the standard deviation of each coordinate;
	// otherwise it is that of the reference process.
	LearnStd bool
	// Langevin lets the network see the gradient of log R where it is.
	Langevin bool
	// Flow adds a head with one output, for log F(x, t), which begins as if log Z
	// were LogZ.
	Flow bool
	LogZ float64
}

// Gaussian is the diagonal Gaussian policy of a diffusion sampler. With Δ = 1/T,
//
//	P_F(x' | x, t) = N(x + σ·u(x, t)·Δ/√(1−tΔ), (σ√Δ·s(x, t))²)
//	P_B(x | x', t+1) = N(x'·t/(t+1), σ²Δ·t/(t+1))
//
// where u, and s if it is learned (1 otherwise), come from a multilayer perceptron
// over x/σ and harmonics of the time, and if asked for σ∇log R(x), as in PIS-Grad
// (Zhang & Chen 2022), squashed by asinh for it has no bound. u starts at 0 and s at 1, so that an untrained
// model is the reference process, Brownian motion; P_B is that process backward,
// pinned in the origin, and has no parameters. The drift that turns the reference
// into the target is E[x_T − x_t | x_t]/(1−tΔ) (Föllmer), and what is left to go has
// the size σ√(1−tΔ): so u stays of one size to the end. It implements Model.
//
// If asked for, a head of the same network gives the flow relative to where the
// reference process is at that time,
//
//	log F(x, t) = log N(x; 0, σ²tΔ) + f(x, t)
//
// so that f is of the size of log R against the reference, and the density, which
// narrows to a point at the origin, is not for the network to learn (Zhang et al.,
// Diffusion Generative Flow Samplers, ICLR 2024, go over from it to R with the time).
// f begins at the first log Z everywhere: an untrained model is in detailed balance but
// for its last step. Of many steps the best u is σ√(1−tΔ)∇f.
type Gaussian struct {
	dim, steps int
	sigma      float64
	act        kernels.Activation
	learnStd   bool
	langevin   bool
	dense      int // features of a state
	layout     Layout
	layers     []dense   // the last one is P_F's head, linear
	flow       head      // over what that reads
	logZ       float64   // where its bias begins
	times      []float32 // by step: what the network sees of it
}

// NewGaussian returns the model for an environment of continuous actions. Faults
// are *fielderr.Error, named like job.Policy's.
func NewGaussian(c GaussianConfig, env envs.Spec) (*Gaussian, error) {
	if !env.Continuous() || env.Sigma <= 0 || env.Dense != 1+2*env.ActionDim || env.MaxSteps < 1 {
		return nil, fmt.Errorf("%w: %d coordinates, %d features, %d steps, noise %v", ErrShape, env.ActionDim, env.Dense, env.MaxSteps, env.Sigma)
	}
	m := &Gaussian{dim: env.ActionDim, steps: env.MaxSteps, sigma: env.Sigma, learnStd: c.LearnStd, langevin: c.Langevin, logZ: c.LogZ, dense: env.Dense}
	var err error
	if m.act, err = activation(c.Activation); err != nil {
		return nil, err
	}
	in, heads := m.inputs(), []int{m.outputs()}
	if c.Flow {
		heads = append(heads, 1)
	}
	if err := checkWidths(in, c.Hidden, heads...); err != nil {
		return nil, err
	}
	add := func(name string, out int) {
		m.layers = append(m.layers, m.layout.add(name, GroupForward, in, out))
	}
	for i, width := range c.Hidden {
		add(fmt.Sprintf("trunk.%d", i), width)
		in = width
	}
	add("forward", m.outputs())
	m.flow = head{dense: dense{in: in, out: 1}, uniform: !c.Flow}
	if c.Flow {
		m.flow.dense = m.layout.addAs("flow", GroupFlow, in, 1, 1, in)
	}
	m.embed()
	return m, nil
}

// gaussianFromSpec builds the model that a job describes.
func gaussianFromSpec(p job.Policy, env envs.Spec, n needs) (Model, error) {
	if !env.Continuous() {
		return nil, fielderr.New("kind", p.Kind, "another kind, such as mlp: the actions of "+env.Name+" are no points")
	}
	if p.Backward != "uniform" {
		return nil, fielderr.New("backward", p.Backward, "uniform: P_B of a gaussian is the reference process backward, which has no parameters")
	}
	m, err := NewGaussian(GaussianConfig{Hidden: p.Hidden, Activation: p.Activation,
		LearnStd: p.Std == "learned", Langevin: p.Drift == "langevin", Flow: n.flow, LogZ: n.logZ}, env)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// timeFeatures is how many numbers the network sees of the time: it, and harmonics.
const timeFeatures = 1 + 2*harmonics

func (m *Gaussian) inputs() int {
	if m.langevin {
		return 2*m.dim + timeFeatures
	}
	return m.dim + timeFeatures
}

func (m *Gaussian) outputs() int {
	if m.learnStd {
		return 2 * m.dim
	}
	return m.dim
}

func (m *Gaussian) embed() {
	m.times = make([]float32, 0, (m.steps+1)*timeFeatures)
	for step := range m.steps + 1 {
		t := float64(step) / float64(m.steps)
		m.times = append(m.times, float32(2*t-1))
		for k := range harmonics {
			sin, cos := math.Sincos(math.Pi * float64(k+1) * t)
			m.times = append(m.times, float32(sin), float32(cos))
		}
	}
}

// Layout implements Model.
func (m *Gaussian) Layout() Layout { return append(Layout(nil), m.layout...) }

// Init implements Model: hidden layers uniform in ±1/√(fan in), the heads zero,
// but for the first log Z in log F.
func (m *Gaussian) Init(params []float32, seed uint64) {
	head := len(m.layers) - 1
	for i, l := range m.layers[:head] {
		l.draw(params, seed, uint64(i), 1)
	}
	m.layers[head].draw(params, seed, uint64(head), 0)
	if !m.flow.uniform {
		m.flow.draw(params, seed, uint64(head)+1, 0)
		m.flow.bias.of(params)[0] = float32(m.logZ)
	}
}

// NewTape implements Model; the tape is a Continuous one.
func (m *Gaussian) NewTape() Tape { return newGaussianTape(m) }

// delta is Δ.
func (m *Gaussian) delta() float64 { return 1 / float64(m.steps) }

// reach is how far one unit of an output u moves the mean.
func (m *Gaussian) reach(step int) float64 {
	left := float64(max(m.steps-step, 1)) * m.delta()
	return m.sigma * m.delta() / math.Sqrt(left)
}

// bridge writes the moments of P_B of a state after step steps, at x.
func (m *Gaussian) bridge(step int, x []float32, out []float64) {
	if step < 2 {
		for j := range out {
			out[j] = math.NaN()
		}
		return
	}
	share := float64(step-1) / float64(step)
	std := m.sigma * math.Sqrt(m.delta()*share)
	for j, v := range x {
		out[j], out[m.dim+j] = share*float64(v), std
	}
}

// passed is the log-density of the reference process at x after step steps, up to
// those of the learned log F; 0 at the origin, where it has none.
func (m *Gaussian) passed(step int, x []float32) float64 {
	if step == 0 {
		return 0
	}
	std := m.sigma * math.Sqrt(m.delta()*float64(step))
	sum := 0.0
	for _, v := range x {
		z := float64(v) / std
		sum -= float64(z*z) / 2
	}
	return sum - float64(len(x))*(math.Log(std)+logRoot2Pi)
}

// LogNormal is the log-density of a point under independent normal distributions
// with these means and standard deviations, whose coordinates are words.
func LogNormal(point []int32, mean, std []float64) float64 {
	sum := 0.0
	for j, w := range point {
		z := (float64(envs.Coordinate(w)) - mean[j]) / std[j]
		sum -= float64(z*z)/2 + math.Log(std[j])
	}
	return sum - float64(len(point))*logRoot2Pi
}

var logRoot2Pi = math.Log(2*math.Pi) / 2
