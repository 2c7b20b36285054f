package kernels

// Activation is an elementwise non-linearity.
type Activation int

// Activations. Each has a derivative that is a function of its output, so a
// layer keeps its outputs only.
const (
	ReLU      Activation = iota // max(z, 0)
	LeakyReLU                   // max(z, LeakySlope·z)
	Tanh
	Linear // z
)

// LeakySlope is the slope of LeakyReLU below zero (PyTorch's default).
const LeakySlope = 0.01

// slope is that of an activation that is linear on both sides of zero: below
// it. Tanh, which is not, is applied to the result of a linear kernel.
func (a Activation) slope() float32 {
	switch a {
	case ReLU:
		return 0
	case LeakyReLU:
		return LeakySlope
	}
	return 1
}

// start is what a product is added to.
type start int

// As the assembly numbers them.
const (
	fromDst start = iota
	fromBias
	fromZero
)

// product is dst = f(start + a·b), or aᵀ·b: see gen/tile.go.
type product struct {
	dst, a, b Matrix
	turned    bool // a is k × m
	start     start
	bias      []float32
	slope     float32
	y         Matrix // with data: the backward pass of an activation with these outputs
}

// inner is the length of the sums.
func (p *product) inner() int {
	if p.turned {
		return p.a.Rows
	}
	return p.a.Cols
}

// compute checks the shapes and takes the kernels in use.
func (p *product) compute() {
	rows, k := p.a.Rows, p.a.Cols
	if p.turned {
		rows, k = k, rows
	}
	if p.dst.Rows != rows || p.dst.Cols != p.b.Cols || p.b.Rows != k {
		panic("kernels: shapes of a product do not fit")
	}
	if rows == 0 || p.dst.Cols == 0 {
		return
	}
	p.dst.check()
	p.a.check()
	p.b.check()
	if p.start == fromBias {
		p.bias = p.bias[:p.dst.Cols]
	}
	if p.y.Data != nil {
		if p.y.Rows != rows || p.y.Cols != p.dst.Cols {
			panic("kernels: shapes of a backward pass do not fit")
		}
		p.y.check()
	}
	if level == Go {
		p.portable()
		return
	}
	p.tiled()
}

// Layer computes dst = act(bias + a·b) (a is m×k, b k×n, dst m×n). NaN stays NaN.
func Layer(dst, a, b Matrix, bias []float32, act Activation) {
	p := product{dst: dst, a: a, b: b, start: fromBias, bias: bias, slope: act.slope()}
	p.compute()
	if act == Tanh {
		tanh(dst)
	}
}

// LayerBackward computes dst = (a·b) ⊙ act'(y), or with add (dst + a·b) ⊙ act'(y),
// where y (m×n) are the outputs of an activation: the gradient with respect to
// its inputs. At exactly zero the derivative of a rectifier is its slope below.
func LayerBackward(dst, a, b, y Matrix, act Activation, add bool) {
	p := product{dst: dst, a: a, b: b, start: fromZero, slope: act.slope(), y: y}
	if add {
		p.start = fromDst
	}
	if act == Tanh || act == Linear {
		p.y, p.slope = Matrix{}, 1
	}
	p.compute()
	if act == Tanh {
		tanhBackward(dst, y)
	}
}

// Mul computes dst = a·b (a is m×k, b k×n, dst m×n).
func Mul(dst, a, b Matrix) {
	p := product{dst: dst, a: a, b: b, start: fromZero, slope: 1}
	p.compute()
}

// MulTN adds aᵀ·b to dst (a is k×m, b k×n, dst m×n): the gradient of a weight
// matrix, summed over the rows of a batch in order. Kernels may pass over zeros of a, so that one
// hides a non-finite element of b.
func MulTN(dst, a, b Matrix) {
	p := product{dst: dst, a: a, b: b, turned: true, slope: 1}
	p.compute()
}

// Peak makes at least rounds of nothing but fused sums on registers, and returns
// how many floating-point operations they were: what a benchmark holds products
// against. The Go kernels have none: 0.
func Peak(rounds int) (flops float64) {
	if level == Go || rounds < 1 {
		return 0
	}
	return peak(rounds)
}
